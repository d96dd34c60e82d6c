"""Each public data set, from a small copy of its real layout to an nnU-Net raw data set that can be trained on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.data import downloads
from verdiff.errors import DataError, InputError
from verdiff.imaging import read_labels, read_volume
from verdiff.train.config import DataConfig
from verdiff.train.data.check import check_dataset
from verdiff.train.data.convert import CONVERTERS, ConvertOptions, convert
from verdiff.train.data.convert.aasce import fill_quadrilateral
from verdiff.train.data.nnunet import read_raw

MAKE: dict[str, Callable[[Path], Path]] = {
    "spider": downloads.write_spider,
    "ctspine1k": downloads.write_ctspine1k,
    "verse": downloads.write_verse,
    "mrspineseg": downloads.write_mrspineseg,
    "aasce": downloads.write_aasce,
}


def description(folder: Path) -> dict[str, object]:
    return json.loads((folder / "dataset.json").read_text("utf-8"))  # type: ignore[no-any-return]


def made(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a written case."""
    ending = description(folder)["file_ending"]
    image = read_volume(folder / "imagesTr" / f"{name}_0000{ending}")
    return image.array, read_labels(folder / "labelsTr" / f"{name}{ending}").array


@pytest.mark.parametrize("labels", ["structures", "levels"])
@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_what_is_written_passes_the_check_and_is_read_for_training(tmp_path: Path, name: str, labels: str) -> None:
    source = MAKE[name](tmp_path / "download")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    written = convert(name, source, tmp_path / "out", ConvertOptions(labels=labels))  # type: ignore[arg-type]
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    report = check_dataset(tmp_path / "out")
    # Only one of the three patients of CTSpine1K has L6, so no fold can both train and validate on it.
    assert report.usable and all("the one patient" in finding.found for finding in report.findings)
    assert list(written.labels.values()) == list(range(1, len(written.labels) + 1)), "nnU-Net wants no gaps"
    view = "film" if name == "aasce" else "sagittal"
    dataset = read_raw(tmp_path / "out", DataConfig(view=view))
    assert dataset.labels == tuple(written.labels) and len(dataset.cases) == written.cases


LUMBAR = {"vertebra": 1, "disc": 2, "canal": 3}


def test_spider_keeps_the_series_of_a_patient_together(tmp_path: Path) -> None:
    source = downloads.write_spider(tmp_path / "download")
    convert("spider", source, tmp_path / "out")
    about = description(tmp_path / "out")
    assert about["labels"] == {"background": 0, **LUMBAR}
    assert about["channel_names"] == {"0": "MR"}
    assert about["patients"]["spider001_space"] == "spider001"  # type: ignore[index]
    splits = json.loads((tmp_path / "out" / "splits_final.json").read_text("utf-8"))
    assert sorted(len(split["val"]) for split in splits) == [1, 2, 3]


def test_spider_files_may_lie_a_folder_deeper_but_only_once(tmp_path: Path) -> None:
    source = downloads.write_spider(tmp_path / "download")
    for part in ("images", "masks"):
        (source / part).rename(source / "unpacked")
        (source / part).mkdir()
        (source / "unpacked").rename(source / part / part)
    assert convert("spider", source, tmp_path / "out").cases == 6
    shutil.copy(source / "masks/masks/2_t2.mha", source / "masks")
    with pytest.raises(DataError, match=r"2_t2\.mha twice below masks/"):
        convert("spider", source, tmp_path / "again")


def test_spider_ids_become_structures_in_the_grid_of_the_scan(tmp_path: Path) -> None:
    source = downloads.write_spider(tmp_path / "download")
    convert("spider", source, tmp_path / "out", ConvertOptions(contrasts=("t2",)))
    image, mask = made(tmp_path / "out", "spider002")
    ids = read_labels(source / "masks" / "2_t2.mha").array
    assert np.array_equal(image, read_volume(source / "images" / "2_t2.mha").array)
    kinds = np.select([ids == 100, ids > 200, ids > 0], [3, 2, 1], 0)
    assert np.array_equal(mask, kinds) and set(np.unique(kinds)) == {0, 1, 2, 3}
    was = read_volume(source / "images" / "2_t2.mha").geometry
    assert read_labels(tmp_path / "out" / "labelsTr" / "spider002.nii.gz").geometry.matches(was, 1e-4)


def test_spider_levels_are_counted_from_the_lowest_vertebra(tmp_path: Path) -> None:
    source = downloads.write_spider(tmp_path / "download")
    options = ConvertOptions(labels="levels", contrasts=("t2",))
    written = convert("spider", source, tmp_path / "out", options)
    assert written.labels == {"L5": 1, "L4": 2, "L3": 3, "L5/S1": 4, "L4/L5": 5, "L3/L4": 6, "canal": 7}
    _, mask = made(tmp_path / "out", "spider003")
    ids = read_labels(source / "masks" / "3_t2.mha").array
    for value, label in {1: 1, 2: 2, 103: 3, 201: 4, 202: 5, 203: 6, 100: 7}.items():
        assert np.array_equal(mask == label, ids == value)


def test_the_midline_recipe_halves_pixels_as_dataset101_was_halved(tmp_path: Path) -> None:
    """Mean of four grey values, rounded to even; the structure of at least two of four pixels, the first in a draw."""
    mask = np.zeros((5, 4, 8), np.int16)
    mask[1, 0, 0] = mask[4, 0, 0] = 100
    mask[2:4] = 100
    mask[2, :2] = [[1, 2, 1, 0, 201, 100, 1, 201], [0, 0, 0, 0, 100, 201, 100, 201]]
    grey = np.arange(mask.size, dtype=np.uint8).reshape(mask.shape)
    grey[2, :2, :2] = [[1, 1], [1, 3]]
    grey[2, :2, 2:4] = [[1, 2], [1, 2]]
    for number in (1, 2):
        downloads.write_image(
            tmp_path / "d/masks" / f"{number}_t2_SPACE.mha", mask, (0.47, 0.47, 0.9), downloads.SAGITTAL
        )
        downloads.write_image(
            tmp_path / "d/images" / f"{number}_t2_SPACE.mha", grey, (0.47, 0.47, 0.9), downloads.SAGITTAL
        )
    # The other series of a patient are not part of it.
    downloads.write_spider(tmp_path / "d", ("1_t1", "1_t2"))
    convert("spider", tmp_path / "d", tmp_path / "out", ConvertOptions(midline=True))
    image, labels = made(tmp_path / "out", "spider001")
    # 1.5 and 1.5 are rounded to 2; slices with one voxel of 32 of the canal are not near the midline.
    assert image.dtype == np.uint8 and image.shape == labels.shape == (2, 2, 4)
    assert image[0, 0, :2].tolist() == [2, 2]
    assert labels[0].tolist() == [[1, 0, 2, 2], [3, 3, 3, 3]]
    assert description(tmp_path / "out")["channel_names"] == {"0": "T2"}
    old = read_volume(tmp_path / "d/images/1_t2_SPACE.mha").geometry
    new = read_volume(tmp_path / "out/imagesTr/spider001_0000.nii.gz").geometry
    assert np.allclose(new.spacing_mm, (0.94, 0.94, 0.9))
    # The first new pixel lies between the first four of the first slice that was kept.
    assert np.allclose(new.index_to_mm([0, 0, 0]), old.index_to_mm([0.5, 0.5, 2]), atol=1e-4)
    assert np.allclose(new.index_to_mm([3, 1, 1]), old.index_to_mm([6.5, 2.5, 3]), atol=1e-4)


def test_a_scan_in_another_orientation_gives_the_same_midline_slices_in_the_same_place(tmp_path: Path) -> None:
    """Axes of the array are permuted and flipped: canonical slices, and the world position of every voxel, stay."""
    downloads.write_spider(tmp_path / "a", ("1_t2_SPACE", "2_t2_SPACE"))
    import SimpleITK as sitk

    for part in ("images", "masks"):
        for number in (1, 2):
            image = sitk.ReadImage(str(tmp_path / "a" / part / f"{number}_t2_SPACE.mha"))
            path = tmp_path / "b" / part / f"{number}_t2_SPACE.mha"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.DICOMOrient(image, "RAS"), str(path))
    for name in ("a", "b"):
        convert("spider", tmp_path / name, tmp_path / f"out_{name}", ConvertOptions(midline=True))
    for one, other in zip(made(tmp_path / "out_a", "spider002"), made(tmp_path / "out_b", "spider002"), strict=True):
        assert np.array_equal(one, other) and one.any()
    first, second = (read_labels(tmp_path / f"out_{n}/labelsTr/spider002.nii.gz").geometry for n in "ab")
    assert first.matches(second, 1e-3)


def test_midline_levels_have_only_those_that_are_left(tmp_path: Path) -> None:
    source = downloads.write_spider(tmp_path / "d", ("1_t2_SPACE", "2_t2_SPACE"))
    for number in (1, 2):
        path = source / "masks" / f"{number}_t2_SPACE.mha"
        ids = read_labels(path).array.copy()
        ids[1, 0, 0] = 9  # outside of the slices that show the canal
        downloads.write_image(path, ids.astype(np.int16), (0.5, 0.5, 3.0), downloads.SAGITTAL)
    written = convert("spider", source, tmp_path / "out", ConvertOptions(labels="levels", midline=True))
    assert "T9" not in written.labels and "L5" in written.labels


def test_ctspine1k_pairs_by_name_across_its_trees(tmp_path: Path) -> None:
    source = downloads.write_ctspine1k(tmp_path / "download")
    written = convert("ctspine1k", source, tmp_path / "out", ConvertOptions(labels="levels"))
    assert written.labels == {"L6": 1, "L5": 2, "L1": 3, "T12": 4} and written.cases == 8
    assert (tmp_path / "out/imagesTr/1.3.6.1.4.1.9328.50.4.0002_0000.nii.gz").read_bytes() == (
        source / "rawdata/volumes/COLONOG/1.3.6.1.4.1.9328.50.4.0002.nii.gz"
    ).read_bytes()
    assert description(tmp_path / "out")["channel_names"] == {"0": "CT"}


def test_ctspine1k_keeps_the_series_of_a_patient_together(tmp_path: Path) -> None:
    convert("ctspine1k", downloads.write_ctspine1k(tmp_path / "download"), tmp_path / "out")
    # Cases that are the only one of their patient are not listed.
    assert description(tmp_path / "out")["patients"] == {
        "sub-verse004_ct": "sub-verse004",
        "verse401_verse201_CT-iso": "verse401",
        "verse401_verse202_CT-iso": "verse401",
        "volume-covid19-A-0202_0_ct": "volume-covid19-A-0202",
        "volume-covid19-A-0202_1_ct": "volume-covid19-A-0202",
    }


def test_a_subset_is_a_folder_of_that_name(tmp_path: Path) -> None:
    source = downloads.write_ctspine1k(tmp_path / "download")
    written = convert("ctspine1k", source, tmp_path / "out", ConvertOptions(subset="COLONOG"))
    assert written.cases == 2
    with pytest.raises(DataError, match="1 cases from only"):
        convert("ctspine1k", source, tmp_path / "neck", ConvertOptions(subset="HNSCC-3DCT-RT"))


@pytest.mark.parametrize("direction", ["PIR", "LAS", "SRA"])
def test_verse_centroids_are_placed_in_the_patient(tmp_path: Path, direction: str) -> None:
    source = downloads.write_verse(tmp_path / "download", direction)
    convert("verse", source, tmp_path / "out", ConvertOptions(labels="levels"))
    table = description(tmp_path / "out")["labels"]
    stated = json.loads((tmp_path / "out" / "centroids.json").read_text("utf-8"))
    assert set(stated) == set(downloads.VERSE_SCANS)
    for name, about in stated.items():
        mask = read_labels(tmp_path / "out" / "labelsTr" / f"{name}.nii.gz")
        assert set(about) == {"centroids_mm"} and set(about["centroids_mm"]) == {"T12", "T13", "L1"}
        for level, position in about["centroids_mm"].items():
            voxels = np.argwhere(mask.array == table[level]).mean(axis=0)[::-1]  # type: ignore[index]
            assert np.allclose(position, mask.geometry.index_to_mm(voxels), atol=2e-3)


def test_verse_centroids_far_from_their_vertebra_are_told(tmp_path: Path) -> None:
    source = downloads.write_verse(tmp_path / "download")
    path = next(source.rglob("sub-verse500*_ctd.json"))
    entries = json.loads(path.read_text("utf-8"))
    entries[1]["X"] += 40
    entries.append({"label": 24, "X": 1, "Y": 1, "Z": 1})
    path.write_text(json.dumps(entries), "utf-8")
    convert("verse", source, tmp_path / "out")
    far = json.loads((tmp_path / "out" / "centroids.json").read_text("utf-8"))["sub-verse500_dir-ax"][
        "far_from_mask_mm"
    ]
    assert far == {"T12": pytest.approx(36, abs=0.1), "L5": None}


@pytest.mark.parametrize(
    "text", ["{}", "[]", '[{"direction": ["P", "I", "I"]}]', '[{"direction": "PIR"}, {"label": "x"}]']
)
def test_a_file_that_holds_no_centroids_is_refused(tmp_path: Path, text: str) -> None:
    source = downloads.write_verse(tmp_path / "download")
    next(source.rglob("sub-verse501*_ctd.json")).write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"case sub-verse501_dir-sag: sub-verse501"):
        convert("verse", source, tmp_path / "out")


def test_mrspineseg_has_the_sacrum_and_leaves_the_challenges_test_images_out(tmp_path: Path) -> None:
    source = downloads.write_mrspineseg(tmp_path / "download")
    written = convert("mrspineseg", source, tmp_path / "out", ConvertOptions(labels="levels"))
    assert written.labels == {"L5": 1, "L4": 2, "L5/S1": 3, "L4/L5": 4, "sacrum": 5} and written.cases == 3
    _, mask = made(tmp_path / "out", "mrspineseg015")
    ids = read_labels(source / "train/Mask/mask_case15.nii.gz").array
    for value, label in {2: 1, 3: 2, 11: 3, 12: 4, 1: 5}.items():
        assert np.array_equal(mask == label, ids == value)
    record = json.loads((tmp_path / "out" / "conversion.json").read_text("utf-8"))
    assert record["notes"] == ["test folders hold 1 files that are not part of this data set"]
    assert record["cases"]["mrspineseg001"]["mask"] == "train/Mask/mask_case1.nii.gz"


def test_aasce_films_have_the_papers_size_and_a_quadrilateral_a_vertebra(tmp_path: Path) -> None:
    source = downloads.write_aasce(tmp_path / "download")
    written = convert("aasce", source, tmp_path / "out", ConvertOptions(labels="levels"))
    assert list(written.labels)[:2] == ["L5", "L4"] and len(written.labels) == 17
    record = json.loads((tmp_path / "out" / "conversion.json").read_text("utf-8"))["cases"]
    names = {about["image"].removeprefix("data/").removesuffix(".jpg"): name for name, about in record.items()}
    for film in downloads.FILMS:
        image, mask = made(tmp_path / "out", names[film])
        assert image.shape == mask.shape == (1, 750, 250) and image.dtype == np.uint8
        # Boxes of 0.4 x 0.7 of a seventeenth of the film: 100 x 30.9 pixels, whatever the film measured.
        for label in written.labels.values():
            assert (mask == label).sum() == pytest.approx(0.4 * 250 * 0.7 * 750 / 17, rel=0.05)
        columns = np.flatnonzero((mask[0] > 0).any(axis=0))
        assert abs(columns[0] - 75) <= 2 and abs(columns[-1] - 175) <= 2
    top = mask[0, :60, 125]
    assert top.max() == written.labels["T1"], "the first four landmarks are T1's"


def test_films_of_one_number_are_one_patients(tmp_path: Path) -> None:
    source = downloads.write_aasce(tmp_path / "download")
    convert("aasce", source, tmp_path / "out")
    patients = description(tmp_path / "out")["patients"]
    counted = Counter(patients.values())  # type: ignore[attr-defined]
    assert counted == {"patient162": 2, "patient310": 2}, "whatever the case of the visit's letter"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (3, 1, 0, 2)])
def test_corners_enclose_the_same_pixels_in_any_order(order: tuple[int, ...]) -> None:
    corners = np.array([(2.0, 3.0), (9.0, 4.0), (1.0, 8.0), (10.0, 9.0)])
    filled = fill_quadrilateral(corners[list(order)], (12, 14))
    y, x = np.mgrid[:12, :14]
    ring = [corners[0], corners[1], corners[3], corners[2]]
    sides = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)
    ]
    strictly, loosely = np.all([s > 0 for s in sides], axis=0), np.all([s >= 0 for s in sides], axis=0)
    assert (filled >= strictly).all() and (filled <= loosely).all() and filled.sum() > 30


def test_corners_beside_the_film_fill_what_lies_on_it() -> None:
    filled = fill_quadrilateral(np.array([(-5.0, -5.0), (2.5, -5.0), (-5.0, 2.5), (2.5, 2.5)]), (6, 6))
    assert np.argwhere(filled).tolist() == [[y, x] for y in range(3) for x in range(3)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p2: p2[:60], DataError, r"p2 of shape \(60, 2\)"),
        (lambda p2: p2 * np.nan, DataError, r"p2 of shape"),
        (lambda p2: p2 * 5, DataError, r"corners from"),
        (lambda p2: p2 * [0, 1], DataError, r"T1 whose corners enclose nothing"),
    ],
)
def test_landmarks_that_cannot_be_this_films_name_it(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], error: type[Exception], message: str
) -> None:
    from scipy.io import savemat

    source = downloads.write_aasce(tmp_path / "download")
    savemat(source / "labels/test/film.jpg.mat", {"p2": change(downloads.corners_of(100, 300))})
    with pytest.raises(
        error, match=rf"case xray001: film.jpg.mat has .*{message}|case xray001: film.jpg.mat has {message}"
    ):
        convert("aasce", source, tmp_path / "out")


@pytest.mark.parametrize("damaged", ["labels/test/film.jpg.mat", "data/test/film.jpg"])
def test_a_damaged_film_or_landmark_file_is_named(tmp_path: Path, damaged: str) -> None:
    source = downloads.write_aasce(tmp_path / "download")
    (source / damaged).write_bytes((source / damaged).read_bytes()[:150])
    with pytest.raises((DataError, InputError), match=r"case xray001: film\.jpg"):
        convert("aasce", source, tmp_path / "out")
