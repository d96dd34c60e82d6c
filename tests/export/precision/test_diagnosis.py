"""Faults that a mask may hide, named before any mask is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.export.precision.bench import Bench, half
from tests.export.precision.networks import denoiser_graph, node_of, patients, prior_graph
from verdiff.errors import VerificationError
from verdiff.export.precision.diagnosis import Ranges, check_ranges
from verdiff.export.precision.search import Candidate


def scale_element(model: onnx.ModelProto, name: str, index: int, factor: float) -> onnx.ModelProto:
    """A copy with one number of one initializer multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[index] *= factor
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


@pytest.mark.parametrize(
    ("role", "output", "slot"),
    [
        ("prior", "entered", 1),
        ("prior", "widened", 1),
        ("prior", "logits", 1),
        ("denoiser", "entered", 1),
        ("denoiser", "embedded", 1),
        ("denoiser", "embedded", 2),
        ("denoiser", "logits", 1),
    ],
)
@pytest.mark.parametrize("index", [0, -1])
def test_two_percent_in_a_single_number_is_refused_by_name(
    bench: Bench, role: str, output: str, slot: int, index: int
) -> None:
    graphs = Candidate.of(bench.source, half).graphs()
    model = graphs.roles()[role]
    node = next(node for node in model.graph.node if output in node.output)
    damaged = scale_element(model, node.input[slot], index, 1.02)
    with pytest.raises(VerificationError, match=f"{role}: {node.op_type} {node.name} has a weight in "):
        bench.judge(replace(graphs, **{role: damaged}))


def test_an_activation_above_65504_is_refused_by_name_where_every_weight_fits() -> None:
    loud = Bench(gain=1e6)
    graphs = Candidate.of(loud.source, half).graphs()
    with pytest.raises(VerificationError) as refusal:
        loud.judge(graphs)
    assert refusal.value.found.startswith(f"prior: Mul {node_of(loud.source.prior, 'loud')} meets 3.1")
    assert "65504" in refusal.value.expected


def test_an_activation_above_65504_in_the_denoiser_is_refused_too(bench: Bench) -> None:
    seen, image = Ranges(bench.source.denoiser), np.ones((1, 3, 8, 8), np.float32)
    feed = {"x": image, "prior": image, "timestep": np.ones(1, np.float32)}
    seen.look({**feed, "feature_0": np.full((1, 6, 8, 8), 7e4, np.float32)})
    (fault,) = [fault for fault in check_ranges(seen, (node_of(denoiser_graph(), "mixed"),))]
    assert fault.node == node_of(denoiser_graph(), "mixed") and "meets" in fault.found


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["first", "last"])
def test_a_value_that_is_not_a_number_is_among_the_oversize(bad: float, order: str) -> None:
    image = patients(1)[0].image
    broken = image.copy()
    broken[0, 0, 3, 3] = bad
    seen = Ranges(prior_graph())
    for shown in (broken, image) if order == "first" else (image, broken):
        seen.look({"image": shown})
    assert {"image", "entered"} <= set(seen.oversize())
    assert not any(abs(value) <= 65504 for value in seen.oversize().values())
    assert node_of(prior_graph(), "entered") in seen.touching()


def test_a_not_a_number_leaves_the_finite_reach_as_it_was() -> None:
    image = patients(1)[0].image
    broken = image.copy()
    broken[0, 0, 3, 3] = np.nan
    seen = Ranges(prior_graph())
    seen.look({"image": broken})
    others = image[image != image[0, 0, 3, 3]]
    assert (seen.low["image"], seen.high["image"]) == (others.min(), others.max())


def test_finite_values_below_the_limit_are_no_fault() -> None:
    seen = Ranges(prior_graph())
    seen.look({"image": patients(1)[0].image})
    assert seen.oversize() == {} and seen.touching() == {}
