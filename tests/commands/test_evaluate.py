"""``verdiff evaluate`` on a bundle: run on a data set, scored under the data set's own numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.commands.evaluate import EvaluateOptions, is_model, run
from verdiff.errors import DataError, InputError, OutputError
from verdiff.evaluate.report import Evaluation
from verdiff.evaluate.stored import read_results
from verdiff.imaging import Geometry, Volume, write_array
from verdiff.options import InferOptions
from verdiff.runtime import Segmenter

CASES = ("one", "two", "three")
# The tiny bundle calls them 1, 2 and 7.
LABELS = {"canal": 1, "disc": 2, "vertebra": 5}
OVERLAP = EvaluateOptions(distances=False)
ONE_THREAD = InferOptions(threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = {"statement": "none", "data_set": "Dataset900_Tiny", "validation_cases": ["three", "one"]}
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff", training=training)


@pytest.fixture(scope="module")
def data(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose expert is the bundle itself, with a part of the discs left out."""
    folder = tmp_path_factory.mktemp("raw") / "Dataset900_Tiny"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    with Segmenter.load(bundle, threads=1, backend="onnxruntime") as segmenter:
        for number, name in enumerate(CASES):
            scan = mr_scan(slices=4 + number)
            found = segmenter.segment(scan).labels
            truth = np.select([found == 7, found == 2, found == 1], [1, 2, 5], 0).astype(np.uint8)
            truth[0][truth[0] == 2] = 0
            write_array(scan.array, scan, folder / "imagesTr" / f"{name}_0000.nii.gz")
            write_array(truth, scan, folder / "labelsTr" / f"{name}.nii.gz")
    about = {"labels": {"background": 0, **LABELS}, "file_ending": ".nii.gz", "channel_names": {"0": "T2"}}
    (folder / "dataset.json").write_text(json.dumps(about), "utf-8")
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["one", "three"], "val": ["two"]}]), "utf-8")
    return folder


def evaluate(
    source: object, data: Path, options: EvaluateOptions = OVERLAP, output: Path | None = None, **inference: object
) -> tuple[Evaluation, list[str]]:
    said: list[str] = []
    how = InferOptions(**{**vars(ONE_THREAD), **inference})  # type: ignore[arg-type]
    return run(str(source), data, output, options, how, say=said.append), said


def test_a_bundle_is_run_and_scored_under_the_data_set_s_label_ids(bundle: Path, data: Path) -> None:
    report, said = evaluate(bundle, data)
    assert report.table.structures == tuple(LABELS)
    assert set(report.table.by_case("vertebra", "dice").values()) == {1.0}
    assert set(report.table.by_case("canal", "dice").values()) == {1.0}
    assert all(0 < dice < 1 for dice in report.table.by_case("disc", "dice").values())
    assert [line.split(":")[0] for line in said[:2]] == ["three", "one"]


def test_a_second_channel_of_the_data_set_is_named(bundle: Path, data: Path, tmp_path: Path) -> None:
    _, said = evaluate(bundle, data)
    assert not any("left out" in line for line in said)
    shutil.copytree(data, tmp_path / "two")
    for path in sorted((tmp_path / "two" / "imagesTr").glob("*_0000.nii.gz")):
        shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))
    _, said = evaluate(bundle, tmp_path / "two")
    assert "of each case channel 0000 alone is taken; left out: 0001" in said


def test_a_bundle_on_its_own_data_set_is_scored_on_the_cases_its_training_put_aside(bundle: Path, data: Path) -> None:
    assert evaluate(bundle, data)[0].table.cases == ("three", "one")
    by_fold, _ = evaluate(bundle, data, EvaluateOptions(distances=False, fold=0))
    assert by_fold.table.cases == ("two",)
    assert "two: tiny-mr was trained on Dataset900_Tiny and this is none of its validation cases" in by_fold.markdown


def test_a_bundle_on_another_data_set_is_scored_on_every_case(bundle: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "Dataset901_Other"
    other.symlink_to(data, target_is_directory=True)
    report, _ = evaluate(bundle, other)
    assert report.table.cases == ("one", "three", "two")
    assert "was trained on" not in report.markdown


def test_calibration_and_error_detection_come_from_the_bundle_s_probabilities(bundle: Path, data: Path) -> None:
    report, _ = evaluate(bundle, data, EvaluateOptions(distances=False, uncertainty=True, fold=0))
    table = report.results.uncertainty
    assert table is not None and table.metrics == ("ece", "error_auroc")
    assert 0 < table.value("two", "disc", "ece") < 1
    # What is missing in the reference was found with a certainty like any other disc's.
    assert 0 < table.value("two", "all labels", "error_auroc") < 1
    assert table.facts["two"]["disc"]["wrong_voxels"] > 0


def test_kept_masks_score_as_the_bundle_did(bundle: Path, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "masks"
    # The kept file has the model's numbers, of which 2 alone means the same in this data set.
    options = EvaluateOptions(labels="disc=2", distances=False, uncertainty=True, masks=kept, fold=0)
    first, _ = evaluate(bundle, data, options, steps=2)
    assert {path.name for path in kept.iterdir()} == {
        "two_0000_seg.nii.gz",
        "two_0000_seg.json",
        "two_0000_uncertainty.nii.gz",
    }
    assert json.loads((kept / "two_0000_seg.json").read_text("utf-8"))["provenance"]["sampling"]["steps"] == 2
    again, _ = evaluate(kept, data, EvaluateOptions(labels="disc=2", distances=False, uncertainty=True, fold=0))
    assert again.table.value("two", "disc", "dice") == first.table.value("two", "disc", "dice")
    assert again.results.uncertainty is not None and first.results.uncertainty is not None
    values = [each.results.uncertainty.value("two", "disc", "error_auroc") for each in (again, first)]
    assert values[0] == values[1]


def test_the_record_says_how_each_mask_was_made(bundle: Path, data: Path, tmp_path: Path) -> None:
    evaluate(bundle, data, OVERLAP, tmp_path / "out", steps=1, samples=1)
    text = (tmp_path / "out" / "scores.json").read_text("utf-8")
    stored = json.loads(text)
    assert stored["inference"]["steps"] == 1
    assert stored["made_by"]["one"]["model"] == "tiny-mr 1.2.3"
    assert stored["made_by"]["one"]["sampling"]["steps"] == 1
    assert str(data) not in text and str(bundle.parent) not in text
    assert read_results(tmp_path / "out").about.keys() == {"one", "three"}


def test_two_settings_are_compared_on_the_same_cases(bundle: Path, data: Path, tmp_path: Path) -> None:
    evaluate(bundle, data, OVERLAP, tmp_path / "whole")
    options = EvaluateOptions(distances=False, compare_with=str(tmp_path / "whole"))
    report, _ = evaluate(bundle, data, options, prior_only=True)
    found = report.comparisons["masks"]["vertebra"]["dice"].comparison
    assert found is not None and found.difference.cases == 2
    assert found.difference.mean < 0
    two, _ = evaluate(bundle, data, EvaluateOptions(distances=False, compare_with=str(bundle)))
    same = two.comparisons["masks"]["disc"]["dice"].comparison
    assert same is not None and same.difference.mean == 0


def test_a_structure_the_model_does_not_know_is_an_error_that_says_what_can_be_scored(bundle: Path, data: Path) -> None:
    with pytest.raises(DataError, match=r"not sacrum(.|\n)*--labels disc=2$"):
        evaluate(bundle, data, EvaluateOptions(labels="disc=2,sacrum=3", distances=False))


def test_a_structure_that_nobody_asked_for_is_named(bundle: Path, data: Path) -> None:
    report, _ = evaluate(bundle, data, EvaluateOptions(labels="disc=2", distances=False, fold=0))
    assert "- tiny-mr also finds canal, vertebra, which were not scored." in report.markdown
    assert "- two: the reference also holds label ids [1, 5], which were not scored." in report.markdown


def test_a_scan_that_is_refused_is_named(bundle: Path, data: Path) -> None:
    with pytest.raises(InputError, match="case three: "):
        evaluate(bundle, data, OVERLAP, sampler="no-such-sampler")


def test_masks_are_kept_of_a_bundle_alone_and_where_a_folder_can_be(bundle: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--masks"):
        evaluate(data / "labelsTr", data, EvaluateOptions(distances=False, masks=tmp_path))
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(OutputError, match="file"):
        evaluate(bundle, data, EvaluateOptions(distances=False, masks=tmp_path / "file"))


def spine(vertebrae: int) -> np.ndarray:
    """Vertebral bodies of 26 mm with discs of 8 mm between, and a canal behind them, on a grid of 2 mm."""
    mask = np.zeros((17 * vertebrae + 6, 40, 30), np.uint8)
    for number in range(vertebrae):
        low = 4 + 17 * number
        mask[low : low + 13, 8:23, 5:25] = 1
        mask[low + 13 : low + 17, 8:23, 5:25] = 2 if number < vertebrae - 1 else 0
    mask[2:-2, 24:31, 11:19] = 3
    return mask


def test_vertebrae_that_share_a_label_are_scored_one_by_one(tmp_path: Path) -> None:
    reference = spine(4)
    prediction = reference.copy()
    prediction[38:51] = np.where(prediction[38:51] == 1, 0, prediction[38:51])  # the third from below is missed
    volume = Volume(reference, Geometry(reference.shape[::-1], (2.0, 2.0, 2.0)))
    for name, mask in (("predictions", prediction), ("references", reference)):
        (tmp_path / name).mkdir()
        write_array(mask, volume, tmp_path / name / "a.nii.gz")
    options = EvaluateOptions(labels="vertebra=1,disc=2,canal=3", distances=False, instances="vertebrae")
    report, _ = evaluate(tmp_path / "predictions", tmp_path / "references", options)
    table = report.results.instances
    assert table is not None and table.structures == ("vertebra", "disc")
    found = table.facts["a"]["vertebra"]
    assert (found["reference_instances"], found["predicted_instances"], found["matched"]) == (4, 3, 3)
    assert table.value("a", "vertebra", "panoptic_quality") == pytest.approx(3 / 3.5)
    # The anatomy leaves out the number of a vertebra that the mask misses, so those above it keep theirs.
    assert table.value("a", "vertebra", "identification_rate") == pytest.approx(3 / 4)
    perfect, _ = evaluate(tmp_path / "references", tmp_path / "references", options)
    assert perfect.results.instances is not None
    assert perfect.results.instances.value("a", "vertebra", "identification_rate") == 1.0
    assert perfect.results.instances.facts["a"]["disc"]["reference_instances"] == 3


def test_a_vertebra_that_the_scan_cuts_off_is_one_like_the_others(tmp_path: Path) -> None:
    cut = spine(4)[: 4 + 3 * 17 + 7]  # half of the uppermost body
    volume = Volume(cut, Geometry(cut.shape[::-1], (2.0, 2.0, 2.0)))
    write_array(cut, volume, tmp_path / "a.nii.gz")
    options = EvaluateOptions(labels="vertebra=1,disc=2,canal=3", distances=False, instances="vertebrae")
    table = evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", options)[0].results.instances
    assert table is not None
    assert table.facts["a"]["vertebra"]["identified"] == 4


def test_a_model_without_vertebrae_has_none_to_score_one_by_one(data: Path) -> None:
    with pytest.raises(InputError, match="vertebra"):
        evaluate(data / "labelsTr", data, EvaluateOptions(labels="disc=2", instances="vertebrae"))


def test_a_fold_without_splits_is_looked_for_beside_the_references(data: Path, tmp_path: Path) -> None:
    options = EvaluateOptions(distances=False, fold=0)
    for references in (data, data / "labelsTr"):
        assert evaluate(data / "labelsTr", references, options)[0].table.cases == ("two",)
    with pytest.raises(DataError, match=r"splits_final\.json"):
        evaluate(data / "labelsTr", tmp_path, EvaluateOptions(labels="disc=2", distances=False, fold=0))


def test_a_mask_of_another_grid_than_its_scan_is_named(bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text((data / "dataset.json").read_text("utf-8"), "utf-8")
    scan = mr_scan(slices=4)
    write_array(scan.array, scan, tmp_path / "imagesTr" / "a_0000.nii.gz")
    moved = mr_scan(slices=4, pixel=0.95)
    write_array(np.ones(moved.array.shape, np.uint8), moved, tmp_path / "labelsTr" / "a.nii.gz")
    with pytest.raises(DataError, match="case a: corners up to"):
        evaluate(bundle, tmp_path)


def test_a_shipped_name_a_bundle_and_nothing_else_are_models(bundle: Path, data: Path) -> None:
    assert is_model("spine-mr") and is_model(str(bundle))
    assert not is_model(str(data)) and not is_model(str(data / "labelsTr" / "one.nii.gz"))


def test_a_bundle_is_run_on_the_cases_that_are_named_alone(bundle: Path, data: Path) -> None:
    report, said = evaluate(bundle, data, EvaluateOptions(distances=False, cases="two"))
    assert report.table.cases == ("two",)
    assert [line.split(":")[0] for line in said if line.endswith(" s")] == ["two"]


def test_a_case_that_a_data_set_does_not_have_is_refused_before_the_model_is_loaded(data: Path) -> None:
    with pytest.raises(DataError, match="no case four, five in Dataset900_Tiny") as caught:
        evaluate("no-such-model.verdiff", data, EvaluateOptions(distances=False, cases="one,four,five"))
    assert "one, three, two" in caught.value.expected
