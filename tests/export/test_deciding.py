"""A structure decided at another probability than one half: every host decides there, so logits are shifted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.toy import toy_config, toy_dataset
from verdiff.bundle import open_bundle
from verdiff.errors import DataError
from verdiff.evaluate.decision import best_decision, decisions
from verdiff.evaluate.tables import Table
from verdiff.evaluate.uncertainty import reliability, score_uncertainty
from verdiff.export.exporting import run as export
from verdiff.options import ExportOptions
from verdiff.runtime import Segmenter
from verdiff.train.networks.deciding import decide
from verdiff.train.trainer import Trainer


def test_what_had_the_stated_probability_has_one_half(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in Trainer(toy_config(iterations=3), toy_dataset(), 0, run, device="cpu").train():
        pass
    names = toy_dataset().labels
    bundles = {}
    for name, chosen in (("plain", {}), ("moved", {names[1]: 0.2})):
        bundles[name] = tmp_path / f"{name}.verdiff"
        export(
            run,
            ExportOptions(bundles[name], decide=",".join(f"{each}={p}" for each, p in chosen.items()) or None),
            say=lambda line: None,
        )
    assert "decided" not in open_bundle(bundles["plain"]).manifest.training
    assert open_bundle(bundles["moved"]).manifest.training["decided"] == {names[1]: 0.2}
    scan = (np.random.default_rng(2).normal(300, 60, (2, 32, 24)).astype(np.int16), (3.0, 1.0, 1.0), None)
    plain, moved = (
        Segmenter.load(each, self_test=False).segment(scan, force=True, prior_only=True) for each in bundles.values()
    )
    ours, theirs = plain.probabilities(names[1]), moved.probabilities(names[1])
    odds = ours / (1 - ours) * 4
    np.testing.assert_allclose(theirs, odds / (1 + odds), atol=4e-3)  # they are kept as half precision
    np.testing.assert_allclose(plain.probabilities(names[0]), moved.probabilities(names[0]), atol=2e-3)


@pytest.mark.parametrize(("chosen", "words"), [({"tooth": 0.4}, "tooth"), ({"disc": 0.99}, "0.05 to 0.95")])
def test_unknown_structures_and_probabilities_out_of_range_are_refused(chosen: dict[str, float], words: str) -> None:
    net = torch.nn.Module()
    with pytest.raises(DataError, match=words):
        decide(net, ("disc",), chosen)  # type: ignore[arg-type]


def test_the_best_probability_is_the_one_with_the_largest_dice_among_all() -> None:
    rng = np.random.default_rng(4)
    probability = rng.uniform(0, 1, 20_000)
    truth = rng.uniform(0, 1, probability.size) < probability**2  # overstated: half of it is right from 0.71 on
    found = best_decision([vars(reliability(probability, truth))])
    assert found is not None

    def dice(least: float) -> float:
        return 2 * (truth & (probability >= least)).sum() / (truth.sum() + (probability >= least).sum())

    edges = [at / 15 for at in range(1, 15)]
    assert found.probability == max(edges, key=dice)
    assert found.dice == pytest.approx(dice(found.probability)) and found.dice_half == pytest.approx(dice(8 / 15))
    assert found.probability > 0.5 and found.cases == 1


def test_a_structure_that_no_case_has_is_not_decided() -> None:
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 2:5, 2:5] = 1
    scores = score_uncertainty(
        truth, truth, np.zeros(truth.shape, np.uint8), spacing_mm=(1, 1, 1), label_ids={"disc": 1, "canal": 2},
        probability=lambda name: (truth == 1) * (0.9 if name == "disc" else 0.1),
    )  # fmt: skip
    assert list(decisions(Table.of({"a": scores}, ("ece", "error_auroc"), averaged=False))) == ["disc"]
