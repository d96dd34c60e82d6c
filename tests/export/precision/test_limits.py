"""The gate's limits and what it measures, one by one: each figure that is out of bounds is refused by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.export.precision.bench import FP16, Bench, half
from tests.export.precision.networks import COLS, ROWS, manifest, networks, node_of, patients, scale_weight
from verdiff.errors import VerificationError
from verdiff.evaluate.empty import image_diagonal_mm
from verdiff.export.precision.execution import CpuGraph
from verdiff.export.precision.gate import LIMITS, Gate, GateReport
from verdiff.export.precision.graphs import plain_weights
from verdiff.export.precision.networks import NetworkPair, PatientRunner
from verdiff.export.precision.search import Candidate
from verdiff.precisions import MaskLimits


@pytest.fixture(scope="module")
def perfect(bench: Bench) -> GateReport:
    """FP32 beside itself."""
    return bench.gate.compare(bench.source)


def test_the_limits_are_those_that_the_documentation_states() -> None:
    assert {
        "fp16": MaskLimits(mean_dice=0.999, worst_dice=0.998, hd95_mm=0.1),
        "bf16": MaskLimits(mean_dice=0.995, worst_dice=0.990, hd95_mm=0.3),
        "int8": MaskLimits(mean_dice=0.995, worst_dice=0.990, hd95_mm=0.3),
    } == LIMITS


def test_a_mean_dice_below_its_limit_is_refused_though_no_patient_is_below_his(perfect: GateReport) -> None:
    dice = {name: dict.fromkeys(of, 0.9985 if name == "disc" else 1.0) for name, of in perfect.dice.items()}
    assert replace(perfect, dice=dice).failures(FP16) == ["mean Dice of disc 0.99850 (at least 0.999)"]


def test_a_distance_beyond_its_limit_is_refused_whatever_the_dice(perfect: GateReport) -> None:
    far = replace(perfect, hd95_mm={**perfect.hd95_mm, "canal": 0.11})
    assert far.failures(FP16) == ["HD95 of canal 0.110 mm (at most 0.1)"]
    assert replace(perfect, hd95_mm={**perfect.hd95_mm, "canal": 0.1}).failures(FP16) == []


class Blind(CpuGraph):
    """A backend whose networks find nothing, whatever they are shown."""

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        first, *rest = super().run(feed)
        return [np.full_like(first, -1), *rest]


def test_a_structure_that_is_lost_altogether_is_a_diagonal_away(bench: Bench) -> None:
    report = bench.gate.compare(bench.source, open_graph=Blind)
    diagonal = image_diagonal_mm((ROWS, COLS), (manifest().spacing_mm,) * 2)
    assert report.hd95_mm == pytest.approx(dict.fromkeys(manifest().label_ids, diagonal))
    assert all(value == 0 for of in report.dice.values() for value in of.values())


def test_a_structure_that_only_the_candidate_finds_is_a_diagonal_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = [replace(trace, probabilities=np.zeros_like(trace.probabilities)) for trace in bench.gate.reference]
    monkeypatch.setattr(bench.gate, "reference", empty)
    diagonal = image_diagonal_mm((ROWS, COLS), (manifest().spacing_mm,) * 2)
    assert bench.gate.compare(bench.source).hd95_mm == pytest.approx(dict.fromkeys(manifest().label_ids, diagonal))


def test_a_prior_that_is_not_finite_is_refused_where_no_denoiser_would_show_it() -> None:
    source = NetworkPair(networks().prior, None)
    gate = Gate(source, manifest(), patients(1))
    plain = plain_weights(source.prior)
    head = next(node for node in plain.graph.node if node.name == node_of(plain, "logits"))
    with pytest.raises(VerificationError, match="patient 0: the prior is not finite"):
        gate.compare(NetworkPair(scale_weight(plain, head.input[1], np.nan), None))


def test_the_difference_of_the_uncertainty_is_measured(bench: Bench) -> None:
    executed = Candidate.of(bench.source, half).executed()
    runner = PatientRunner(executed, bench.gate.table, bench.gate.manifest.defaults.seed)
    differences = np.concatenate(
        [
            np.abs(runner.run(patient).uncertainty - exact.uncertainty).ravel()
            for patient, exact in zip(bench.gate.patients, bench.gate.reference, strict=True)
        ]
    )
    mean, most = bench.gate.compare(executed).uncertainty
    assert 0 < mean < most
    assert (mean, most) == pytest.approx((differences.mean(), differences.max()), rel=1e-5)
