"""VerSe 2019 and 2020: spine CT with every vertebra its own id and its centroid (Sekuboyina et al. 2021).

BIDS names, in ``dataset-*/rawdata`` and ``dataset-*/derivatives``: ``sub-verse500_dir-ax_ct.nii.gz``,
``sub-verse500_dir-ax_seg-vert_msk.nii.gz``, ``sub-verse500_dir-ax_seg-subreg_ctd.json`` (or ``seg-vert_ctd``).
``sub-`` names the patient, who may have several scans (``split-``, ``dir-``). Ids from the head down: 1-7 C1-C7, 8-19
T1-T12, 20-25 L1-L6, 28 T13.

A centroid file is a list: ``{"direction": ["P", "I", "R"]}``, then ``{"label", "X", "Y", "Z"}`` a vertebra. As the
authors' tools read it, X, Y, Z are voxels of the image counted along these three directions. Entries of other ids
(parts of a vertebra) or without a position (NaN) are not centroids of vertebrae and are left alone.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.errors import DataError
from verdiff.imaging.volume import Geometry, Volume
from verdiff.train.data.convert.conversion import (
    Conversion,
    Converter,
    ConvertOptions,
    Sample,
    SourceCase,
    nothing_found,
    safe_name,
    stems,
    within,
)
from verdiff.train.data.convert.levels import CT_LEVELS

LAYOUT = "rawdata/sub-X/sub-X_ct.nii.gz and derivatives/sub-X/sub-X_seg-vert_msk.nii.gz"
CENTROIDS = "centroids.json"
# VerSe counts a vertebra as identified when its centroid is that near; further off, file and mask do not agree.
FAR_MM = 20.0
_IMAGE_ENDING, _MASK_ENDING = "_ct.nii.gz", "_seg-vert_msk.nii.gz"
_CENTROIDS = re.compile(r"(.+?)(_seg-[a-z]+)?_ctd\.json")
_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)")
# LPS axis of each anatomical letter, and which way along it.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def find(source: Path, options: ConvertOptions) -> Conversion:
    """The scans of a download, and their centroids as ``centroids.json`` beside the data set.

    That file holds, by case, ``centroids_mm`` (``{level: [x, y, z]}``, LPS mm) and, where a centroid lies more than
    20 mm from the centre of its vertebra in the mask, ``far_from_mask_mm`` (``{level: distance}``; null: no voxels).

    Raises:
        DataError: Neither scans nor masks, or two files of one name.
    """
    images = stems(within(source, f"*{_IMAGE_ENDING}", options.subset), _IMAGE_ENDING)
    masks = stems(within(source, f"*{_MASK_ENDING}", options.subset), _MASK_ENDING)
    if not images and not masks:
        raise nothing_found(source, LAYOUT)
    centroids = {
        match[1]: path
        for path in within(source, "*_ctd.json", options.subset)
        if (match := _CENTROIDS.fullmatch(path.name))
    }
    cases = []
    for stem in sorted(set(images) | set(masks)):
        subject = _SUBJECT.search(stem)
        cases.append(
            SourceCase(safe_name(stem), subject[0] if subject else safe_name(stem), images.get(stem), masks.get(stem))
        )
    lacking = sorted(set(images) - set(centroids))
    notes = (f"{len(lacking)} scans have no centroids, {lacking[0]} among them",) if lacking else ()
    return Conversion(
        channel="CT",
        ending=".nii.gz",
        meanings=CT_LEVELS,
        cases=tuple(cases),
        extra=partial(_centroids_of, files={safe_name(stem): path for stem, path in centroids.items()}),
        extra_file=CENTROIDS,
        notes=notes,
    )


def _centroids_of(case: SourceCase, sample: Sample, *, files: dict[str, Path]) -> dict[str, Any] | None:
    if case.name not in files:
        return None
    image, mask = sample
    stated = read_centroids(files[case.name], image.geometry)
    centroids, far = {}, {}
    for value, position in stated.items():
        level = CT_LEVELS[value].level
        centroids[level] = [round(float(mm), 3) for mm in position]
        centre = _centre(mask, value)
        distance = float("inf") if centre is None else float(np.linalg.norm(centre - position))
        if distance > FAR_MM:
            # A vertebra that is cut by the edge has a centroid and, at times, no voxels.
            far[level] = None if centre is None else round(distance, 1)
    return {"centroids_mm": centroids, **({"far_from_mask_mm": far} if far else {})}


def _centre(mask: Volume, value: int) -> np.ndarray | None:
    voxels = np.argwhere(mask.array == value)
    return mask.geometry.index_to_mm(voxels.mean(axis=0)[::-1]) if len(voxels) else None


def read_centroids(path: Path, geometry: Geometry) -> dict[int, np.ndarray]:
    """Positions [x, y, z], LPS mm, of the vertebrae in a VerSe centroid file.

    Args:
        path: The ``_ctd.json``.
        geometry: The grid of the scan it belongs to.

    Raises:
        DataError: The file is not of VerSe's form.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
        axes = [_LETTERS[letter] for letter in entries[0]["direction"]]
        points = [
            (int(entry["label"]), [float(entry[axis]) for axis in "XYZ"]) for entry in entries[1:] if "label" in entry
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{path.name} is no file of centroids ({type(error).__name__}: {error})",
            'a list of {"direction": [three letters]} and {"label", "X", "Y", "Z"} a vertebra',
            "take the file from the download again",
        ) from error
    if sorted(axis for axis, _ in axes) != [0, 1, 2]:
        raise DataError(
            f"{path.name} counts along {entries[0]['direction']}",
            "three directions at right angles",
            "correct the file",
        )
    voxel_axes = [int(np.abs(geometry.matrix[world]).argmax()) for world in range(3)]
    found = {}
    for value, steps in points:
        if value not in CT_LEVELS or not all(np.isfinite(steps)):
            continue
        index = [0.0, 0.0, 0.0]
        for (world, sign), step in zip(axes, steps, strict=True):
            voxel = voxel_axes[world]
            along = (geometry.matrix[world, voxel] >= 0) == (sign > 0)
            index[voxel] = step if along else geometry.size[voxel] - 1 - step
        found[value] = geometry.index_to_mm(index)
    return found


VERSE = Converter(
    name="verse",
    title="VerSe: spine CT with vertebrae and their centroids",
    source="Sekuboyina et al. 2021, doi 10.1016/j.media.2021.102166; osf.io/nqjyw and osf.io/t98fz",
    licence="CC BY-SA 4.0",
    find=find,
    options=frozenset({"labels", "subset"}),
)
