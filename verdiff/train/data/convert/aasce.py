"""AASCE: AP spine films with four corner landmarks a vertebra (Wu et al. 2017; Verdiff-Net's X-ray set, section 3.1).

The download (``boostnet_labeldata``) holds ``data/training/NAME.jpg`` and ``data/test/NAME.jpg``, and for each film
``labels/.../NAME.jpg.mat`` whose ``p2`` is [68, 2]: x and y in the film's pixels, four corners for each of T1 to L5
from the top (upper left, upper right, lower left, lower right).

A film becomes 250 x 750 pixels (width x height), whatever its shape was, as in the paper; the bodies of the vertebrae
are the quadrilaterals between their corners. Names end in a patient's number and a letter a visit, such as
``310 C AP``: that reading of them is this converter's own, and all films of a number are put on one side of a fold.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from verdiff.errors import DataError, InputError
from verdiff.imaging.resample import resize_planes
from verdiff.imaging.volume import Array, Geometry, Volume
from verdiff.train.data.convert.conversion import (
    Conversion,
    Converter,
    ConvertOptions,
    Sample,
    SourceCase,
    both,
    nothing_found,
    stems,
    within,
)
from verdiff.train.data.convert.levels import PRESACRAL, vertebra

WIDTH, HEIGHT = 250, 750
LEVELS = PRESACRAL[7:]
CORNERS = 4
LAYOUT = "data/training/NAME.jpg and labels/training/NAME.jpg.mat"
# Corners of a vertebra that the film cuts may lie beside it; corners far outside belong to another film.
_OUTSIDE = 0.1
# Copies of the download differ in the letter's case: "310 C AP", "310 c ap".
_VISIT = re.compile(r"(\d+)\s*[A-Z]\s*AP$", re.IGNORECASE)


def find(source: Path, options: ConvertOptions) -> Conversion:
    """The films of a download in the order of their names: ``xray001`` and on.

    Raises:
        DataError: Neither films nor landmarks, or two films of one name.
    """
    images = stems(within(source, "*.jpg", options.subset), ".jpg")
    landmarks = stems(within(source, "*.mat", options.subset), ".mat")
    landmarks = {stem.removesuffix(".jpg"): path for stem, path in landmarks.items()}
    if not images and not landmarks:
        raise nothing_found(source, LAYOUT)
    cases = []
    for number, stem in enumerate(sorted(set(images) | set(landmarks)), start=1):
        visit, name = _VISIT.search(stem), f"xray{number:03d}"
        cases.append(SourceCase(name, f"patient{visit[1]}" if visit else name, images.get(stem), landmarks.get(stem)))
    return Conversion(
        channel="Xray",
        ending=".png",
        meanings={number: vertebra(level) for number, level in enumerate(LEVELS, start=1)},
        cases=tuple(cases),
        read=_read,
        ids=_every_level,
        notes=("films whose names end in one number are taken for one patient's",),
    )


def _every_level(case: SourceCase) -> frozenset[int]:
    both(case)
    return frozenset(range(1, len(LEVELS) + 1))


def _read(case: SourceCase) -> Sample:
    film_path, landmark_path = both(case)
    film = read_film(film_path)
    corners = read_landmarks(landmark_path)
    rows, cols = film.shape
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    if (low < -_OUTSIDE * np.array([cols, rows])).any() or (high > (1 + _OUTSIDE) * np.array([cols, rows])).any():
        raise DataError(
            f"{landmark_path.name} has corners from ({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, {high[1]:.0f})",
            f"x, y within the film of {cols} x {rows} pixels",
            "check that the landmarks are this film's",
        )
    grey = np.rint(resize_planes(film[None], HEIGHT, WIDTH)).astype(np.uint8)
    scaled = (corners + 0.5) * (WIDTH / cols, HEIGHT / rows) - 0.5
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, quadrilateral in enumerate(scaled, start=1):
        inside = fill_quadrilateral(quadrilateral, (HEIGHT, WIDTH))
        if not inside.any():
            raise DataError(
                f"{landmark_path.name} has a {LEVELS[number - 1]} whose corners enclose nothing",
                "four corners around each vertebra",
                "correct its landmarks",
            )
        mask[inside] = number
    geometry = Geometry((WIDTH, HEIGHT, 1), (1.0, 1.0, 1.0))
    return Volume(grey, geometry, "XR"), Volume(mask[None], geometry)


def read_film(path: Path) -> Array:
    """A JPEG as uint8 [rows, columns]; colours, which some of the films have, become their luminance.

    Raises:
        InputError: The file is truncated or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"{path.name} is truncated, damaged or not an image ({error})", "a JPEG film", "copy the file again"
        ) from error


def read_landmarks(path: Path) -> np.ndarray:
    """Corners float64 [17, 4, 2] (x, y in pixels) of T1 to L5, as a ``.mat`` file's ``p2`` [68, 2] lists them.

    Raises:
        InputError: The file is not MATLAB's, has no ``p2``, or one of another shape or with values that are not finite.
    """
    from scipy.io import loadmat

    expected = f"p2 with {len(LEVELS) * CORNERS} x 2 finite numbers"
    try:
        points = np.asarray(loadmat(path)["p2"], dtype=np.float64)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path.name} cannot be read ({error})", expected, "copy the file again") from error
    if points.shape != (len(LEVELS) * CORNERS, 2) or not np.isfinite(points).all():
        raise InputError(f"{path.name} has p2 of shape {points.shape}", expected, "correct its landmarks")
    return points.reshape(len(LEVELS), CORNERS, 2)


def fill_quadrilateral(corners: Array, shape: tuple[int, int]) -> np.ndarray:
    """Pixels, bool [rows, columns], whose centre lies inside four corners [4, 2] (x, y), in whatever order these are.

    The corners are joined in the order of their angle around their mean, so a swapped pair does not make an hourglass.
    """
    around = corners - corners.mean(axis=0)
    ring = corners[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
    first = np.clip(np.floor(ring.min(axis=0)), 0, None).astype(int)
    last = np.clip(np.ceil(ring.max(axis=0)) + 1, 0, (shape[1], shape[0])).astype(int)
    y, x = np.mgrid[first[1] : last[1], first[0] : last[0]]
    inside = np.zeros(y.shape, bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    filled = np.zeros(shape, bool)
    filled[first[1] : last[1], first[0] : last[0]] = inside
    return filled


AASCE = Converter(
    name="aasce",
    title="AASCE: AP spine films with corner landmarks, 250 x 750",
    source="Wu et al., MICCAI 2017 (BoostNet); SpineWeb data set 16, the AASCE challenge of MICCAI 2019",
    licence="not verified",
    find=find,
    options=frozenset({"labels", "subset"}),
    packages=("scipy",),
)
