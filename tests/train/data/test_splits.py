"""Folds by patient."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verdiff.errors import DataError
from verdiff.train.data.splits import fold_findings, make_splits, never_validated, read_splits


@given(
    patients=st.dictionaries(st.text(max_size=3), st.sampled_from("abcdefgh"), min_size=2, max_size=30),
    folds=st.integers(2, 8),
    seed=st.integers(0, 99),
)
def test_each_case_is_validated_on_once_and_no_patient_is_on_both_sides(
    patients: dict[str, str], folds: int, seed: int
) -> None:
    people = set(patients.values())
    if folds > len(people):
        with pytest.raises(DataError, match=f"{folds} folds"):
            make_splits(patients, folds, seed)
        return
    splits = make_splits(patients, folds, seed)
    assert Counter(name for split in splits for name in split["val"]) == Counter(list(patients))
    sizes = {len({patients[name] for name in split["val"]}) for split in splits}
    assert max(sizes) - min(sizes) <= 1
    for number, split in enumerate(splits):
        assert sorted([*split["train"], *split["val"]]) == sorted(patients)
        assert list(fold_findings(number, split, patients, patients)) == []


def test_the_folds_of_a_seed_are_the_same_everywhere() -> None:
    """Recorded once: a fold that changes with the Python version would mix training and validation patients."""
    patients = {name: name for name in "abcdefg"}
    assert [split["val"] for split in make_splits(patients, 3, 35)] == [["a", "d", "g"], ["b", "f"], ["c", "e"]]
    assert [split["val"] for split in make_splits(patients, 3, 36)] != [["a", "d", "g"], ["b", "f"], ["c", "e"]]


def test_patients_kept_for_tests_are_validated_on_in_the_first_fold() -> None:
    patients = {f"case{number}": f"p{number // 2}" for number in range(20)}
    splits = make_splits(patients, 5, 35, first=("p7", "p3"))
    assert splits[0]["val"] == ["case14", "case15", "case6", "case7"]
    with pytest.raises(DataError, match="patient 'p99'"):
        make_splits(patients, 5, 35, first=("p99",))


def test_one_patient_makes_no_folds() -> None:
    with pytest.raises(DataError, match="3 cases from only 'p' patient"):
        make_splits({"a": "p", "b": "p", "c": "p"}, 2)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["a", "b"], "val": ["b"]}, "case b is in train and val of fold 2"),
        ({"train": ["a"], "val": ["z"]}, "fold 2 names the case z"),
        ({"train": ["a"], "val": ["c", "c"]}, "case c is 2 times in val of fold 2"),
        ({"train": [], "val": ["a"]}, "0 training and 1 validation"),
        ({"train": ["a"], "val": ["b"]}, "case b: patient p is in val of fold 2 with it and in train with a"),
    ],
)
def test_what_is_wrong_with_a_fold_is_named(split: dict[str, list[str]], message: str) -> None:
    findings = list(fold_findings(2, split, ["a", "b", "c"], {"a": "p", "b": "p"}))
    assert [message in finding.text for finding in findings] == [True]
    assert findings[0].fatal


def test_cases_that_no_fold_validates_are_noted() -> None:
    splits = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]
    (finding,) = never_validated(splits, ["a", "b", "c"])
    assert finding.case == "b" and not finding.fatal
    assert list(never_validated(splits, ["a", "c"])) == []


@pytest.mark.parametrize("text", ["[]", "{}", '[{"train": ["a"]}]', '[{"train": ["a"], "val": [1]}]', "[1]"])
def test_a_file_without_folds_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits_final.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match="holds no folds"):
        read_splits(tmp_path / "splits_final.json")
