"""A faulty conversion or pipeline never gets into a bundle, whatever the search and the mask say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx
import pytest

from tests.export.precision.bench import FP16
from tests.export.precision.networks import denoiser_graph, manifest, node_of, patients, prior_graph, scale_weight
from verdiff.bundle import GOLDEN, graph_name, pack_golden
from verdiff.errors import VerificationError
from verdiff.export import converting as reduced
from verdiff.export.draft import Draft
from verdiff.export.precision.half import HalfNetwork, to_half
from verdiff.export.precision.search import Candidate

PEOPLE = patients()


@pytest.fixture
def draft() -> Draft:
    """The small networks as a bundle in the making."""
    graphs = {"prior": prior_graph(), "denoiser": denoiser_graph()}
    files = {graph_name(role): model.SerializeToString() for role, model in graphs.items()}
    return Draft(manifest(), {**files, GOLDEN: pack_golden({"image": PEOPLE[0].image})})


def add(draft: Draft, say: Callable[[str], None] = lambda line: None, **options: Any) -> Draft:
    return reduced.add_judged(draft, "fp16", reduced.Reference(draft, PEOPLE), (), say, **options)


def damaged(output: str, factor: float) -> Callable[..., HalfNetwork]:
    """A converter that multiplies the weight behind ``output``."""

    def convert(model: onnx.ModelProto, *options: Any) -> HalfNetwork:
        network = to_half(model, *options)
        node = next((node for node in network.model.graph.node if output in node.output), None)
        if node is None:
            return network
        return HalfNetwork(scale_weight(network.model, node.input[1], factor), network.islands, network.half)

    return convert


def test_a_sound_conversion_is_added_with_its_record(draft: Draft) -> None:
    added = add(draft)
    names = {graph_name(role, "fp16") for role in ("prior", "denoiser", "pipeline", "pipeline-unrolled")}
    assert set(added.files) - set(draft.files) == names
    assert added.manifest.gates["fp16"]["islands"] == {"prior": {}, "denoiser": {}}


def test_every_island_that_only_this_model_needs_is_named_with_its_reason(draft: Draft) -> None:
    loud = replace(draft, files={**draft.files, graph_name("prior"): prior_graph(gain=1e6).SerializeToString()})
    said: list[str] = []
    found = add(loud, said.append).manifest.gates["fp16"]["islands"]["prior"]
    assert found and all(f"  {node}: {reason}" in said for node, reason in found.items())
    assert next(line for line in said if line.startswith("prior:")).endswith(f", and {len(found)} more:")


def test_a_damaged_weight_that_no_mask_shows_is_refused_by_name(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm behind the convolution undoes a factor of two; no backend is there to look a second time."""
    convert = damaged("widened", 2.0)
    reference = reduced.Reference(draft, PEOPLE)
    candidate = Candidate.of(reference.source, lambda role, model, extra: convert(model, extra))
    assert reference.gate.compare(candidate.executed()).failures(FP16) == []
    monkeypatch.setattr(reduced, "installed_backends", tuple)
    monkeypatch.setattr(reduced, "to_half", convert)
    with pytest.raises(VerificationError, match=f"{node_of(prior_graph(), 'widened')} has a weight in .* off by"):
        add(draft, store=False)


@pytest.mark.parametrize(("factor", "seen"), [(-1.0, "probabilities differs"), (1.01, "probabilities, mean")])
def test_a_pipeline_that_differs_from_its_networks_is_not_written(
    draft: Draft, monkeypatch: pytest.MonkeyPatch, factor: float, seen: str
) -> None:
    build = reduced.build_pipeline

    def other(prior: onnx.ModelProto, *rest: Any, **options: Any) -> onnx.ModelProto:
        head = next(node for node in prior.graph.node if "logits" in node.output).input[1]
        return build(scale_weight(prior, head, factor), *rest, **options)

    monkeypatch.setattr(reduced, "build_pipeline", other)
    with pytest.raises(VerificationError, match=f"pipeline fp16 {seen}"):
        add(draft)
