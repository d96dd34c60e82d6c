"""What a number of patients can promise, and that the promise is kept on patients drawn like them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from tests.bundle.factory import make_manifest
from verdiff.bundle import Manifest
from verdiff.bundle.margins import INNER, OUTER, margin_of, most_probable, rank_of, reached_at_least
from verdiff.errors import BundleError, InputError


def record(distances: list[float | None], **changes: Any) -> dict[str, Any]:
    by_share = {share: sorted(distances, key=lambda d: math.inf if d is None else d) for share in ("0.95", "0.99", "1")}
    canal = {"patients": len(distances), OUTER: by_share, INNER: by_share}
    return {"level": 0.5, "structures": {"canal": canal}, **changes}


SEVEN = record([1.0, 1.4, 1.2, 2.5, 1.1, 3.0, 1.6])


def test_seven_patients_promise_seven_eighths_with_the_largest_of_their_distances() -> None:
    margin = margin_of(SEVEN, "canal", OUTER)
    assert (margin.mm, margin.probability, margin.patients, margin.share) == (3.0, 0.875, 7, 0.99)
    assert margin.at_least == pytest.approx(0.05 ** (1 / 7), abs=1e-9)


def test_more_than_the_patients_can_promise_is_refused() -> None:
    with pytest.raises(InputError, match=r"at most 0\.875"):
        margin_of(SEVEN, "canal", OUTER, probability=0.9)


@pytest.mark.parametrize(("probability", "mm"), [(0.875, 3.0), (0.75, 2.5), (0.5, 1.4), (0.1, 1.0)])
def test_less_is_promised_with_a_smaller_distance(probability: float, mm: float) -> None:
    assert margin_of(SEVEN, "canal", OUTER, probability=probability).mm == mm


def test_the_model_says_what_is_promised_where_nobody_does() -> None:
    assert margin_of({**SEVEN, "probability": 0.5}, "canal", INNER).probability == 0.5
    many = record([float(i) for i in range(99)])
    assert margin_of(many, "canal", OUTER).probability == 0.95


def test_a_missed_patient_takes_the_largest_promise_away_and_leaves_the_others() -> None:
    missed = record([1.0, 2.0, None])
    assert math.isinf(margin_of(missed, "canal", OUTER).mm)
    assert margin_of(missed, "canal", OUTER).to_dict()["mm"] is None
    assert margin_of(missed, "canal", OUTER, probability=0.5).mm == 2.0


@pytest.mark.parametrize(("structure", "share"), [("disc", None), ("canal", 0.9)])
def test_what_was_not_calibrated_is_refused(structure: str, share: float | None) -> None:
    with pytest.raises(InputError):
        margin_of(SEVEN, structure, OUTER, share=share)


@given(st.integers(1, 400), st.floats(0.01, 0.99))
def test_the_rank_is_the_least_that_carries_the_probability(patients: int, probability: float) -> None:
    if probability > most_probable(patients):
        with pytest.raises(InputError):
            rank_of(patients, probability)
        return
    rank = rank_of(patients, probability)
    assert rank / (patients + 1) >= probability - 1e-9
    assert rank == 1 or (rank - 1) / (patients + 1) < probability


@pytest.mark.parametrize(("patients", "rank"), [(7, 7), (7, 4), (30, 29), (200, 190)])
def test_what_one_calibration_reaches_is_a_quantile_of_the_beta_distribution(patients: int, rank: int) -> None:
    assert reached_at_least(patients, rank) == pytest.approx(beta.ppf(0.05, rank, patients + 1 - rank), abs=1e-6)


@pytest.mark.parametrize(("patients", "probability"), [(7, 0.875), (7, 0.6), (19, 0.9)])
def test_the_promise_is_kept_on_patients_that_calibration_never_saw(patients: int, probability: float) -> None:
    draw, times = np.random.default_rng(3), 4000
    kept = 0
    for _ in range(times):
        *seen, new = draw.lognormal(0.5, 0.6, patients + 1).tolist()
        kept += new <= margin_of(record(seen), "canal", OUTER, probability=probability).mm
    promised = rank_of(patients, probability) / (patients + 1)
    assert kept / times == pytest.approx(promised, abs=4 * math.sqrt(promised * (1 - promised) / times))


def test_margins_go_through_the_manifest_and_back() -> None:
    manifest = Manifest.from_json(make_manifest(margins=SEVEN).to_json())
    assert margin_of(manifest.margins, "canal", OUTER).mm == 3.0
    assert make_manifest().margins == {}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda r: r.pop("level"), "level"),
        (lambda r: r.update(level=1.0), "level"),
        (lambda r: r.update(level=0), "level"),
        (lambda r: r.update(probability="sure"), "probability"),
        (lambda r: r.pop("structures"), "structures"),
        (lambda r: r["structures"].update(disc=[]), "disc"),
        (lambda r: r["structures"]["canal"].pop("inner"), "inner"),
        (lambda r: r["structures"]["canal"].update(patients=6), "outer"),
        (lambda r: r["structures"]["canal"].update(patients=0), "patients"),
        (lambda r: r["structures"]["canal"]["outer"].update({"most": [1.0] * 7}), "most"),
        (lambda r: r["structures"]["canal"]["outer"].update({"1": [-1.0] * 7}), "outer.1"),
        (lambda r: r["structures"]["canal"]["outer"].update({"1": ["1"] * 7}), "outer.1"),
    ],
)
def test_broken_margins_are_refused_by_their_key(change: Any, key: str) -> None:
    broken = record([1.0, 1.4, 1.2, 2.5, 1.1, 3.0, 1.6])
    change(broken)
    with pytest.raises(BundleError, match=key):
        make_manifest(margins=broken)
