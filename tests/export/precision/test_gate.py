"""The gate: planted faults are refused with the node's name, islands that a model needs are found, the rest passes."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest

from tests.export.precision.bench import FP16, Bench, half
from tests.export.precision.networks import manifest, node_of, scale_weight
from verdiff.errors import VerificationError
from verdiff.export.precision.gate import LIMITS, GateReport, limits_of
from verdiff.export.precision.graphs import plain_weights
from verdiff.export.precision.half import convert
from verdiff.export.precision.islands import STATISTICS, required_islands
from verdiff.export.precision.networks import LoopOutputs
from verdiff.export.precision.search import Candidate, find_islands, islands_by_range
from verdiff.precisions import MaskLimits


def test_a_sound_conversion_passes_and_says_what_it_measured(bench: Bench) -> None:
    report = bench.judge(Candidate.of(bench.source, half).graphs())
    assert report.patients == 6 and report.slices == 6
    assert all(value >= 0.998 for of in report.dice.values() for value in of.values())
    assert len(report.drift) == 1 + len(bench.gate.table)
    assert 0 < report.drift[-1][0] <= report.drift[-1][1] < 0.05
    plain = report.as_dict()
    assert set(plain) == {
        "patients",
        "slices",
        "patients_with",
        "mean_dice",
        "worst_dice",
        "hd95_mm",
        "uncertainty",
        "drift",
    }
    assert any("worst patient" in line for line in report.lines())


def test_fp32_against_itself_differs_in_nothing(bench: Bench) -> None:
    report = bench.gate.compare(bench.source)
    assert all(value == 1.0 for of in report.dice.values() for value in of.values())
    assert set(report.hd95_mm.values()) == {0.0} and report.drift[-1] == (0.0, 0.0)


def test_nodes_near_such_an_activation_become_islands_and_then_it_passes() -> None:
    loud = Bench(gain=1e6)
    extra = islands_by_range(loud.ranges)
    assert {node_of(loud.source.prior, name) for name in ("loud", "quiet")} <= set(extra["prior"])
    assert all("activation" in reason for reason in extra["prior"].values())
    candidate, _ = find_islands(loud.source, half, loud.gate, FP16, extra, lambda line: None)
    loud.judge(candidate.graphs())


def test_a_node_in_the_wrong_precision_is_refused_by_name(bench: Bench) -> None:
    source = plain_weights(bench.source.prior)
    right = required_islands(source)
    norm = next(name for name, reason in right.items() if reason == STATISTICS)
    wrong = convert(source, {name: reason for name, reason in right.items() if name != norm}).model
    with pytest.raises(VerificationError, match=norm):
        bench.judge(replace(Candidate.of(bench.source, half).graphs(), prior=wrong))


@pytest.mark.parametrize("output", ["entered", "widened", "logits"])
def test_two_percent_in_one_weight_is_refused_by_name(bench: Bench, output: str) -> None:
    graphs = Candidate.of(bench.source, half).graphs()
    node = next(node for node in graphs.prior.graph.node if output in node.output)
    damaged = replace(graphs, prior=scale_weight(graphs.prior, node.input[1], 1.02))
    with pytest.raises(VerificationError) as refusal:
        bench.judge(damaged)
    assert re.search(rf"{node.name} has a weight in .* off by (1\.9|2) %", refusal.value.found)


def test_digits_lost_without_an_overflow_are_found_by_bisection_on_the_mask() -> None:
    lossy = Bench(offset=2000.0)
    assert islands_by_range(lossy.ranges)["prior"] == {}
    said: list[str] = []
    candidate, report = find_islands(lossy.source, half, lossy.gate, FP16, {}, said.append)
    assert report.failures(FP16) == []
    culprits = {node_of(lossy.source.prior, name) for name in ("lifted", "lowered")}
    assert set(candidate.extra["prior"]) & culprits
    assert all("Dice" in reason or "HD95" in reason for reason in candidate.extra["prior"].values())
    assert any("looking for the node" in line for line in said)


def test_masks_outside_the_limits_are_refused_with_the_node_where_the_error_grows() -> None:
    lossy = Bench(offset=2000.0)
    with pytest.raises(VerificationError) as refusal:
        lossy.judge(Candidate.of(lossy.source, half).graphs())
    assert "Dice" in refusal.value.found
    assert node_of(lossy.source.prior, "lowered") in refusal.value.found


def test_a_value_that_is_not_finite_names_patient_and_step(bench: Bench) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(bench.source.prior)
    weight = next(node for node in broken.graph.node if "logits" in node.output).input[1]
    with pytest.raises(VerificationError, match="patient 0"):
        bench.gate.compare(replace(bench.source, prior=scale_weight(broken, weight, np.nan)))


def test_a_nan_is_outside_every_limit() -> None:
    nan = float("nan")
    report = GateReport({"disc": {"a": nan, "b": 1.0}}, {"disc": nan}, (0.0, 0.0), ((0.0, 0.0),), 2, 2)
    assert len(report.failures(FP16)) >= 2


def test_the_worst_patient_counts_beside_the_mean() -> None:
    dice = {f"p{i}": 1.0 for i in range(20)} | {"bad": 0.99}
    report = GateReport({"disc": dice}, {"disc": 0.0}, (0.0, 0.0), ((0.0, 0.0),), 21, 21)
    assert report.failures(MaskLimits(0.999, 0.998, 0.1)) == ["Dice of disc in bad 0.99000 (at least 0.998)"]


def test_both_int8_graphs_share_their_limits() -> None:
    assert limits_of("int8-trt") == limits_of("int8-ov") == LIMITS["int8"]


class Painted:
    """A gate of six patients whose masks, FP32's and the candidate's, are empty but for what is painted."""

    def __init__(self, bench: Bench) -> None:
        self.gate, self.names = copy(bench.gate), list(manifest().label_ids)
        self.found = [replace(t, probabilities=np.zeros_like(t.probabilities)) for t in bench.gate.reference]
        self.gate.reference = [replace(t, probabilities=t.probabilities.copy()) for t in self.found]

    def paint(self, traces: list[LoopOutputs], patient: int, name: str, cols: int) -> None:
        channel = self.names.index(name)
        traces[patient].probabilities[:, channel, 4 * channel, :cols] = 1.0


def test_a_patient_without_a_structure_in_either_mask_does_not_count_in_its_mean(bench: Bench) -> None:
    painted, name = Painted(bench), next(iter(manifest().label_ids))
    painted.paint(painted.gate.reference, 2, name, 8)
    painted.paint(painted.found, 2, name, 4)
    painted.paint(painted.found, 5, name, 4)
    report = painted.gate._report(painted.found)
    assert report.dice[name] == pytest.approx({"patient 2": 2 / 3, "patient 5": 0.0})
    assert report.patients == 6 and report.as_dict()["patients_with"][name] == 2
    assert any("in 2 of 6 patients" in line for line in report.lines())


def test_a_structure_in_no_patient_is_no_agreement(bench: Bench) -> None:
    painted = Painted(bench)
    report = painted.gate._report(painted.found)
    assert report.failures(FP16) == [f"{name} in no patient" for name in painted.names]
    assert report.as_dict()["mean_dice"] == {}


def test_patients_and_structures_that_fp32_does_not_find_are_refused_by_name(bench: Bench) -> None:
    painted = Painted(bench)
    first, second, *others = painted.names
    for patient in (0, 1, 2, 4, 5):
        painted.paint(painted.gate.reference, patient, first, 8)
    with pytest.raises(VerificationError) as refusal:
        painted.gate.require_foreground()
    assert "no structure at all in patient 3" in refusal.value.found
    assert f"{', '.join([second, *others])} in no patient" in refusal.value.found
    for name in painted.names:
        painted.paint(painted.gate.reference, 3, name, 8)
    painted.gate.require_foreground()
