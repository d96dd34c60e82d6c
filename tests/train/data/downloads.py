"""Small copies of the public downloads' layouts: names, formats, ids and orientations as published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

# Sagittal acquisition: slices to the left, rows downwards, columns backwards (columns of the matrix: x, y, z).
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
# As CT in VerSe often lies: x backwards, y downwards, z to the right.
PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def write_image(
    path: Path,
    array: np.ndarray,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    direction: Sequence[float] = LPS,
    origin: Sequence[float] = (5.0, -7.0, 11.0),
) -> Path:
    """One [z, y, x] array as a file of the format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def stack(ids: Sequence[int], slices: int = 6, rows: int = 24, cols: int = 12) -> np.ndarray:
    """A mask [slices, rows, cols]: flat blocks of the ids from top to bottom, none in the first slice."""
    mask = np.zeros((slices, rows, cols), np.int16)
    height = rows // len(ids)
    for place, value in enumerate(ids):
        mask[1:, place * height : (place + 1) * height, 2:8] = value
    return mask


def scan_of(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Intensities of 16 bits that go with a mask."""
    noise = np.random.default_rng(seed).integers(0, 90, mask.shape)
    return (noise + 300 * (mask > 0) - 100).astype(np.int16)


def write_spider(
    root: Path, series: Sequence[str] = ("1_t1", "1_t2", "1_t2_SPACE", "2_t2", "3_t2", "3_t2_SPACE")
) -> Path:
    """``images/N_CONTRAST.mha`` and ``masks/`` of the same names: three patients, ids from the bottom up."""
    for number, name in enumerate(series):
        # The topmost vertebra is cut by the edge; the canal lies behind all.
        mask = stack((103, 203, 2, 202, 1, 201))
        mask[2:5, :, 9:11] = 100
        write_image(root / "masks" / f"{name}.mha", mask, (0.5, 0.5, 3.0), SAGITTAL)
        write_image(root / "images" / f"{name}.mha", scan_of(mask, number), (0.5, 0.5, 3.0), SAGITTAL)
    return root


CTSPINE1K_VOLUMES = (
    "COLONOG/1.3.6.1.4.1.9328.50.4.0001",
    "COLONOG/1.3.6.1.4.1.9328.50.4.0002",
    "COVID-19/volume-covid19-A-0202_0_ct",
    "COVID-19/volume-covid19-A-0202_1_ct",
    "HNSCC-3DCT-RT/HN_P001",
    "verse/verse401_verse201_CT-iso",
    "verse/verse401_verse202_CT-iso",
    "verse/sub-verse004_ct",
)


def write_ctspine1k(root: Path, volumes: Sequence[str] = CTSPINE1K_VOLUMES) -> Path:
    """Volumes and masks in separate trees, a folder a collection, named as the data set's own list names them."""
    for number, name in enumerate(volumes):
        mask = stack((20, 24) if number else (19, 25))
        write_image(root / "rawdata" / "volumes" / f"{name}.nii.gz", scan_of(mask, number))
        write_image(root / "rawdata" / "labels" / f"{name}_seg.nii.gz", mask)
    return root


VERSE_SCANS = {"sub-verse500_dir-ax": LPS, "sub-verse501_dir-sag": PIR, "sub-gl003_split-a": SAGITTAL}


def write_verse(root: Path, direction: str = "PIR") -> Path:
    """BIDS names with centroids at the middles of the masks, counted along ``direction``."""
    for number, (name, cosines) in enumerate(VERSE_SCANS.items()):
        mask = stack((19, 20, 28))
        subject = name.split("_")[0]
        raw, derived = (
            root / "dataset-01training" / "rawdata" / subject,
            root / "dataset-01training/derivatives" / subject,
        )
        write_image(raw / f"{name}_ct.nii.gz", scan_of(mask, number), (0.8, 0.9, 2.0), cosines)
        write_image(derived / f"{name}_seg-vert_msk.nii.gz", mask, (0.8, 0.9, 2.0), cosines)
        (derived / f"{name}_seg-subreg_ctd.json").write_text(
            json.dumps(verse_centroids(mask, cosines, direction)), "utf-8"
        )
    return root


def verse_centroids(mask: np.ndarray, cosines: Sequence[float], direction: str) -> list[dict[str, object]]:
    """What a ``_ctd.json`` holds: the array turned so that its axes run along ``direction``, its voxels counted."""
    image = sitk.GetImageFromArray(mask)
    image.SetDirection(cosines)
    turned = sitk.GetArrayFromImage(sitk.DICOMOrient(image, direction))
    entries: list[dict[str, object]] = [{"direction": list(direction)}]
    for value in (19, 20, 28):
        z, y, x = np.argwhere(turned == value).mean(axis=0)
        entries.append({"label": value, "X": x, "Y": y, "Z": z})
    return [*entries, {"label": 41, "X": 0.0, "Y": 0.0, "Z": 0.0}, {"label": 21, "X": float("nan"), "Y": 1, "Z": 1}]


def write_mrspineseg(root: Path) -> Path:
    """``train/MR/CaseN.nii.gz`` and ``train/Mask/mask_caseN.nii.gz``, and a test image without a mask."""
    for number in (1, 2, 15):
        mask = stack((3, 12, 2, 11, 1))
        write_image(root / "train" / "MR" / f"Case{number}.nii.gz", scan_of(mask, number), (0.5, 0.5, 4.4), SAGITTAL)
        write_image(root / "train" / "Mask" / f"mask_case{number}.nii.gz", mask, (0.5, 0.5, 4.4), SAGITTAL)
    write_image(root / "test1" / "MR" / "Case196.nii.gz", scan_of(mask), (0.5, 0.5, 4.4), SAGITTAL)
    return root


FILMS = {
    "training/sunhl-1th-01-Mar-2017-310 A AP": (100, 300),
    "training/sunhl-1th-01-Mar-2017-310 C AP": (125, 375),
    "training/sunhl-1th-02-Jan-2017-162 A AP": (120, 200),
    "training/sunhl-1th-02-Jan-2017-162 b ap": (120, 240),
    "test/film": (100, 300),
}


def corners_of(width: int, height: int) -> np.ndarray:
    """Landmarks [68, 2] of seventeen upright boxes of 40 % of the width."""
    points = []
    for number in range(17):
        top, bottom = height * (number + 0.1) / 17, height * (number + 0.8) / 17
        left, right = 0.3 * width, 0.7 * width
        points += [(left, top), (right, top), (left, bottom), (right, bottom)]
    return np.array(points)


def write_aasce(root: Path) -> Path:
    """``data/PART/NAME.jpg`` and ``labels/PART/NAME.jpg.mat``."""
    from PIL import Image
    from scipy.io import savemat

    for number, (name, (width, height)) in enumerate(FILMS.items()):
        film, landmarks = root / "data" / f"{name}.jpg", root / "labels" / f"{name}.jpg.mat"
        for path in (film, landmarks):
            path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).integers(0, 255, (height, width), np.uint8)
        picture = Image.fromarray(grey)
        (picture.convert("RGB") if number == 1 else picture).save(film)
        savemat(landmarks, {"p2": corners_of(width, height)})
    return root
