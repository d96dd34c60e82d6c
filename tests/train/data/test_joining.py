"""Several data sets as one: structures and patients by name, weights, folds, and the cache that keeps all of it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.train.toy import toy_case, toy_config, toy_dataset, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train.batches import draw_cases, generator_for, make_batch
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import CaseSlices, Dataset, read_cache, write_cache
from verdiff.train.data.check_joint import check_together
from verdiff.train.data.joining import TrainingSource, join, with_patients
from verdiff.train.data.loading import load_sources
from verdiff.train.losses import UNKNOWN

VOLUMES = DataConfig(modality="MR", view="sagittal", spacing_mm=1.0, intensity_low=0, intensity_high=100)


def data_set(name: str, cases: list[str], labels: tuple[str, ...] = ("vertebra", "disc"), **changed: object) -> Dataset:
    """Toy cases under given names, without splits of its own unless some are given."""
    made = []
    for index, case in enumerate(cases):
        toy = toy_case(case, index)
        # Numbers beyond the labels would be structures that the data set does not have.
        made.append(dataclasses.replace(toy, labels=np.where(toy.labels > len(labels), 0, toy.labels).astype(np.uint8)))
    values: dict[str, object] = {
        "name": name, "labels": labels, "label_ids": tuple(range(1, len(labels) + 1)), "cases": tuple(made),
        "splits": (), "stated_splits": False, **changed,
    }  # fmt: skip
    return dataclasses.replace(toy_dataset(), **values)  # type: ignore[arg-type]


def by_name(dataset: Dataset) -> dict[str, CaseSlices]:
    return {case.name: case for case in dataset.cases}


def test_structures_are_joined_by_name_and_what_a_data_set_does_not_name_is_unknown() -> None:
    first = data_set("A", ["a1", "a2"], ("vertebra", "disc"))
    second = data_set("B", ["b1", "b2"], ("canal", "vertebra"), label_ids=(1, 5))
    joint = join([(first, 1.0), (second, 1.0)])
    # The canal's id was taken by the vertebra of the first data set.
    assert joint.labels == ("vertebra", "disc", "canal") and joint.label_ids == (1, 2, 3)
    cases, source = by_name(joint), by_name(second)["b1"]
    assert cases["a1"].unknown == (2,) and cases["b1"].unknown == (1,)
    assert np.array_equal(cases["b1"].labels == 3, source.labels == 1)
    assert np.array_equal(cases["b1"].labels == 1, source.labels == 2)
    assert cases["a1"].data_set == "A" and cases["b1"].data_set == "B"


def test_coverage_and_the_scans_own_labels_move_to_the_joint_channels() -> None:
    source = data_set("B", ["b1", "b2"], ("disc", "vertebra"))
    labels = source.cases[0].labels
    coverage = np.stack([labels == 1, labels == 2], axis=1).astype(np.uint8) * 255
    changed = tuple(dataclasses.replace(case, coverage=coverage, own=case.labels) for case in source.cases)
    joint = join([(data_set("A", ["a1", "a2"]), 1.0), (dataclasses.replace(source, cases=changed), 1.0)])
    case = by_name(joint)["b1"]
    assert case.coverage is not None and case.own is not None
    assert np.array_equal(case.coverage[:, 1], coverage[:, 0]) and np.array_equal(case.coverage[:, 0], coverage[:, 1])
    assert np.array_equal(case.own, case.labels) and np.array_equal(case.own == 2, labels == 1)


def test_a_patient_of_two_data_sets_never_stands_on_both_sides_of_a_fold() -> None:
    splits = ({"train": ["spider001"], "val": ["spider002"]}, {"train": ["spider002"], "val": ["spider001"]})
    first = data_set("A", ["spider001", "spider002"], splits=splits, stated_splits=True)
    second = data_set("B", ["spider001t2_s03", "spider002t1_s01", "spider0021_s01", "spider009_s1", "spider009_s2"])
    joint = join([(first, 1.0), (second, 1.0)])
    assert len(joint.splits) == 2
    for fold in range(2):
        training, validation = joint.fold(fold)
        sides = [{joint.patients[case.name] for case in side} for side in (training, validation)]
        assert not sides[0] & sides[1] and sides[0] | sides[1] == set(joint.patients.values())
    assert joint.patients["spider0021_s01"] == "spider0021"
    assert {"spider002", "spider002t1_s01"} <= set(joint.splits[0]["val"])
    validated = Counter(name for split in joint.splits for name in split["val"])
    assert set(validated.values()) == {1} and len(validated) == 7


def test_what_stated_folds_leave_out_is_on_neither_side_of_a_joint_fold() -> None:
    splits = ({"train": ["a1"], "val": ["a2_s1"]}, {"train": ["a2_s1"], "val": ["a1"]})
    first = data_set("A", ["a1", "a2_s1", "a2_s2", "a3"], splits=splits, stated_splits=True)
    second = data_set("B", ["a2_t1", "a3_t1", "b1", "b2"])
    joint = join([(first, 1.0), (second, 1.0)])
    for fold, split in enumerate(joint.splits):
        # a3 is a test patient in the one set, so in the other, too; a2_s2 is left out although its patient is not.
        assert not {"a3", "a3_t1", "a2_s2"} & {*split["train"], *split["val"]}
        assert "a2_t1" in split["train" if fold else "val"]
        assert sorted([*split["train"], *split["val"]]) == ["a1", "a2_s1", "a2_t1", "b1", "b2"]


def test_the_same_name_twice_is_told_apart_by_its_data_set() -> None:
    joint = join([(data_set("A", ["p1", "p2"]), 1.0), (data_set("B", ["p1", "p3"]), 1.0)])
    assert [case.name for case in joint.cases] == ["p1", "p2", "p1@B", "p3"]
    assert joint.patients["p1@B"] == "p1"
    told = joint.parts([case for case in joint.cases if case.name in ("p2", "p1@B")])
    assert told["A"]["validation_cases"] == ["p2"] and told["B"]["validation_cases"] == ["p1"]
    assert told["B"] == {
        "cases": 2, "patients": 2, "weight": 1.0, "structures": ["vertebra", "disc"], "validation_cases": ["p1"],
    }  # fmt: skip


def test_patients_are_drawn_by_the_weight_of_their_data_set_however_many_cases_they_have() -> None:
    many = [f"b1_s{index}" for index in range(9)]
    joint = join([(data_set("A", ["a1", "a2"]), 2.0), (data_set("B", [*many, "b2_s0"]), 1.0)])
    drawn = Counter(joint.patients[case.name] for case in draw_cases(list(joint.cases), 6000, generator_for(0, 0)))
    shares = {patient: count / 6000 for patient, count in drawn.items()}
    assert shares == pytest.approx({"a1": 2 / 6, "a2": 2 / 6, "b1": 1 / 6, "b2": 1 / 6}, abs=0.02)


def test_a_batch_says_unknown_where_a_data_set_does_not_label() -> None:
    joint = join([(data_set("A", ["a1", "a2"]), 1.0), (data_set("B", ["b1", "b2"], ("vertebra",)), 1.0)])
    cases = [case for case in joint.cases if case.data_set == "B"]
    _, truth = make_batch(cases, 2, toy_config(), generator_for(1, 0))
    assert bool((truth[:, 1] == UNKNOWN).all()) and bool((truth[:, 0] >= 0).all())


def test_a_joint_cache_is_read_as_it_was_written(tmp_path: Path) -> None:
    joint = join([(data_set("A", ["a1", "a2"]), 2.0), (data_set("B", ["b1_s1", "b1_s2", "b2"], ("vertebra",)), 0.5)])
    write_cache(joint, tmp_path / "cache")
    read = read_cache(tmp_path / "cache")
    assert read.patients == joint.patients and read.splits == joint.splits and read.labels == joint.labels
    for ours, theirs in zip(read.cases, joint.cases, strict=True):
        assert (ours.unknown, ours.weight, ours.data_set) == (theirs.unknown, theirs.weight, theirs.data_set)


@pytest.mark.parametrize(
    ("text", "folder", "weight"),
    [("data/A", "data/A", 1.0), ("data/A:0.5", "data/A", 0.5), ("C:/data/A", "C:/data/A", 1.0), ("A:2", "A", 2.0)],
)
def test_a_weight_stands_behind_the_folder(text: str, folder: str, weight: float) -> None:
    assert TrainingSource.parse(text) == TrainingSource(Path(folder), weight)


@pytest.mark.parametrize("text", ["A:0", "A:-1", "A:half", "A:nan", "A:inf", "A:"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError) as caught:
        TrainingSource.parse(text)
    assert "FOLDER:WEIGHT" in caught.value.expected


def test_a_folder_whose_name_has_a_colon_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "data:3"
    folder.mkdir()
    assert TrainingSource.parse(str(folder)) == TrainingSource(folder)


def test_the_pattern_of_patients_makes_folds_of_a_single_data_set_too(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy", cases=4)
    (folder / "splits_final.json").unlink()
    dataset = load_sources([TrainingSource(folder)], VOLUMES, patients="toy[01]|toy[23]")
    assert len(set(dataset.patients.values())) == 4
    with pytest.raises(DataError, match="no part that matches"):
        load_sources([TrainingSource(folder)], VOLUMES, patients="patient[0-9]+")
    with pytest.raises(DataError, match=r"--patients"):
        with_patients(dataset, "(")


def test_there_are_no_more_folds_than_patients(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy", cases=6)
    (folder / "splits_final.json").unlink()
    dataset = load_sources([TrainingSource(folder)], VOLUMES, patients="oy(?=[012])|y(?=[34])|toy(?=5)")
    assert set(dataset.patients.values()) == {"oy", "y", "toy"} and len(dataset.splits) == 3


def test_a_data_set_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy")
    with pytest.raises(DataError, match="named twice"):
        load_sources([TrainingSource(folder), TrainingSource(folder, 2.0)], VOLUMES)


def test_data_sets_of_another_number_of_folds_are_refused() -> None:
    def split(names: list[str], count: int) -> tuple[dict[str, list[str]], ...]:
        return tuple({"train": names[1:], "val": names[:1]} for _ in range(count))

    first = data_set("A", ["a1", "a2"], splits=split(["a1", "a2"], 2), stated_splits=True)
    second = data_set("B", ["b1", "b2"], splits=split(["b1", "b2"], 3), stated_splits=True)
    with pytest.raises(DataError, match="3 folds"):
        join([(first, 1.0), (second, 1.0)])


def test_films_and_volumes_of_one_slice_and_of_many_mix(tmp_path: Path) -> None:
    first = write_raw_dataset(tmp_path / "Dataset900_Toy")
    second = write_raw_dataset(tmp_path / "Dataset901_Other")
    description = json.loads((second / "dataset.json").read_text("utf-8"))
    description["labels"] = {"background": 0, "vertebra": 1, "ignore": 2}
    (second / "dataset.json").write_text(json.dumps(description), "utf-8")
    joint = load_sources([TrainingSource(first), TrainingSource(second, 0.5)], VOLUMES)
    assert joint.name == "Dataset900_Toy + Dataset901_Other" and len(joint.cases) == 6
    other = by_name(joint)["toy0@Dataset901_Other"]
    assert other.unknown == (1,) and bool((other.labels == 255).any()) and not bool((other.labels == 2).any())


def test_data_sets_are_checked_alone_and_together(tmp_path: Path) -> None:
    first = write_raw_dataset(tmp_path / "Dataset900_Toy")
    second = write_raw_dataset(tmp_path / "Dataset901_Other")
    (second / "splits_final.json").unlink()
    one, other, together = check_together([first, second])
    assert one.usable and other.usable and together.usable
    assert together.cases == 6 and together.patients == 3
    # The toy patients are the same in both, voxel by voxel; they stay on one side of each fold.
    assert sum("its image is that of case" in finding.text for finding in together.findings) == 3


def test_one_scan_under_two_patients_on_both_sides_of_a_fold_is_an_error(tmp_path: Path) -> None:
    first = write_raw_dataset(tmp_path / "Dataset900_Toy")
    second = write_raw_dataset(tmp_path / "Dataset901_Other")
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        for index in range(3):
            (second / part / f"toy{index}{ending}").rename(second / part / f"other{index}{ending}")
    splits = [{"train": ["other0", "other1"], "val": ["other2"]}]
    (second / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    together = check_together([first, second])[-1]
    assert not together.usable
    assert any("on both sides of fold 0" in finding.text for finding in together.findings if finding.fatal)
