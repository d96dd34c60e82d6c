"""The study of levels from the picture: scenes, folds by patient, fit, calibration and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies.levels.fitting import cross_fitted, fit
from studies.levels.measuring import group_of, outcomes, reliability, table
from studies.levels.running import run
from studies.levels.scenes import Scene, patient_of, scenes
from tests.anatomy.phantom import PITCH_MM, spine
from verdiff.anatomy.anchor import AnchorModel
from verdiff.imaging import Geometry, Volume, write_array

CUTS = (None, 1.0, -0.5, -1.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six spines of six bodies, the lowest of which is sacrum in the picture and background in the mask."""
    folder = tmp_path_factory.mktemp("data") / "Dataset901_Lumbar"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    labels = {"background": 0, "vertebra": 1, "disc": 2, "canal": 3}
    about = {"channel_names": {"0": "T2"}, "labels": labels, "numTraining": 6, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about), "utf-8")
    made = spine(6, slices=5)
    noise = np.random.default_rng(0)
    sacrum = (made.along_mm > 5 * PITCH_MM) & (made.along_mm < 6 * PITCH_MM)
    for case in range(6):
        image = np.select([made.labels == 1, made.labels == 2, made.labels == 3], [300, 120, 900], 60).astype(float)
        # Its body grows narrower downwards and leans back, with nothing behind it.
        leaning = np.abs(made.across_mm - 6 - 0.4 * (made.along_mm - 5 * PITCH_MM)) < 12
        image[sacrum] = np.where(leaning[sacrum], 300, 60)
        volume = Volume((image + noise.normal(0, 8, image.shape)).astype(np.int16), made.geometry)
        truth = np.where((made.truth == 1) | (sacrum & (made.labels == 2)), 0, made.labels).astype(np.uint8)
        write_array(volume.array, volume, folder / "imagesTr" / f"p{case}_0000.nii.gz")
        write_array(truth, volume, folder / "labelsTr" / f"p{case}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def found(data: Path) -> list[Scene]:
    return list(scenes(data, cuts=CUTS))


def test_a_cut_takes_the_lower_end_away_and_the_truth_follows(found: list[Scene]) -> None:
    assert len(found) == 6 * len(CUTS)
    first = {scene.cut: scene for scene in found if scene.case == "p0"}
    assert first[None].last == 0 and len(first[None].bodies) == 4
    assert first[1.0].last == 0 and first[1.0].bodies[0].seen_below < 1.01
    assert first[-1.5].last is None and len(first[-1.5].bodies) < 4
    assert first[-0.5].bodies[0].seen_below == 0


def test_no_patient_is_judged_by_a_model_that_has_seen_them(
    found: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    from studies.levels import fitting

    seen: dict[int, set[str]] = {}
    weights = fitting._weights

    def noted(used: list[Scene]) -> AnchorModel:
        model = weights(used)
        seen[id(model.weights)] = {scene.patient for scene in used}
        return model

    monkeypatch.setattr(fitting, "_weights", noted)
    judged = list(cross_fitted(found))
    assert {scene.case for scene, _ in judged} == {f"p{case}" for case in range(6)}
    assert all(scene.patient not in seen[id(model.weights)] for scene, model in judged)


def test_the_picture_names_what_shows_the_anchor_and_nothing_else(found: list[Scene]) -> None:
    told = list(outcomes(cross_fitted(found)))
    assert {each.answer for each in told if each.group == "whole"} <= {"right", "unknown"}
    assert not [each for each in told if each.answer == "wrong"]
    assert any(each.answer == "right" for each in told)
    # The plain rule takes L4 or L3 for L5 wherever L5 is cut off.
    assert {each.plain for each in told if each.case == "p0" and each.group == "no sacrum"} >= {"wrong"}
    rows = table("a", told)
    assert rows[0].startswith("| a | whole | 6 |") and rows[0].endswith("| 0 |")
    assert sum(int(row.split("|")[2]) for row in reliability(told)) == len(told)


def test_groups_and_patients_are_named_by_what_the_scans_are() -> None:
    assert [group_of(cut) for cut in (None, 0.5, 0.0, -0.5)] == ["whole", "sacrum cut", "end at the disc", "no sacrum"]
    assert patient_of("spider108t2_s03") == patient_of("spider108t1_s12") == "spider108"
    assert patient_of("chu01") == "chu01"


def test_the_command_writes_weights_that_the_package_reads(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    paths = {"weights": tmp_path / "anchor.json", "output": tmp_path / "levels.md"}
    run([data], [], masks={}, **paths, command="python -m studies levels data", say=said.append, cuts=CUTS)
    written = json.loads(paths["weights"].read_text("utf-8"))
    model = AnchorModel.from_dict(written["model"])
    assert (
        written["measured"]["pictures"] == 6 * len(CUTS) and "6 scans of 6 patients" in written["training"]["statement"]
    )
    assert model.to_dict() == fit(list(scenes(data, cuts=CUTS))).to_dict()
    page = paths["output"].read_text("utf-8")
    assert "python -m studies levels data" in page and "plain rule wrong" in page


def test_a_grid_without_a_column_of_bodies_gives_no_scene_with_an_anchor() -> None:
    from verdiff.anatomy.vertebrae import bodies_seen

    grid = Geometry((40, 40, 3), (2.0, 2.0, 2.0))
    empty = np.zeros(grid.shape, np.uint8)
    assert bodies_seen(empty, grid, {"vertebra": 1}, empty) == ()
