"""Which patients have a narrowed disc, from masks and images: the groups that a table looks at apart.

No reader has graded anything here. Two measures, of each disc whole in the picture, from the top down:

- narrowed beside the next disc above it: less than :data:`OF_THE_ONE_ABOVE` of its height, and darker in its middle.
  Healthy lumbar discs grow taller from one level to the next below, the last one apart.
- collapsed: its height is less than :data:`OF_ITS_DEPTH` of its own depth from front to back.

A height is a disc's area in a sagittal slice over its length along its long axis; the median over the slices counts in
which it is at least half as large as in its largest. Its signal is the median of the inner half, by distance from its
edge in the slice. Neither contrast nor scanner matters much, since a patient's discs are compared with each other.

What it cannot tell: a grade; a disc that is dark and not narrowed; a spine in which all discs are narrowed alike but
none collapsed; the last disc before the sacrum from one that is naturally low. Masks that cut discs short narrow them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from verdiff.errors import DataError, VerdiffError
from verdiff.files import plan_files
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.slicing import plan_slices
from verdiff.train.data.layout import find_files, read_description

DISC = "disc"
NARROWED, OTHERS = "narrowed disc", "no narrowed disc"
OF_THE_ONE_ABOVE, OF_ITS_DEPTH = 0.65, 0.10
SMALLEST_MM2 = 40.0
"""Area below which a part of a mask in a slice is no disc."""


@dataclass(frozen=True)
class Disc:
    """A disc of a patient.

    Attributes:
        row: Its middle, in rows from the top.
        height_mm: Its height.
        depth_mm: Its length from front to back.
        signal: Grey value in its middle.
    """

    row: float
    height_mm: float
    depth_mm: float
    signal: float


@dataclass(frozen=True)
class Finding:
    """What decides a patient's group.

    Attributes:
        case: Name of the case.
        discs: How many discs were measured.
        least_of_the_one_above: The smallest height of a disc over that of the next one above; NaN of fewer than two.
        least_of_its_depth: The smallest height over depth.
        narrowed: Whether one of the discs is narrowed or collapsed.
    """

    case: str
    discs: int
    least_of_the_one_above: float
    least_of_its_depth: float
    narrowed: bool


def write_groups(data: Path, output: Path, *, overwrite: bool = False, say: Callable[[str], None] = print) -> Path:
    """Measure the discs of every case of a data set, and write which group each belongs to.

    Args:
        data: An nnU-Net raw data set of sagittal MR whose masks have discs.
        output: The CSV file: ``case,group``, as ``--groups`` takes it, and the measures behind it.
        overwrite: Whether a file that is not verdiff's may be replaced.
        say: Takes a line of news.

    Raises:
        DataError: The data set has no discs, or a case cannot be read.
        OutputError: The file cannot be written, or its place is taken by one that is not verdiff's.
    """
    plan = plan_files({"groups": output}, inputs={"data set": data}, overwrite=overwrite)
    found = list(findings(data))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "group", "discs", "least_height_of_the_one_above", "least_height_of_its_depth"))
    for one in found:
        measures = (f"{value:.3f}" for value in (one.least_of_the_one_above, one.least_of_its_depth))
        writer.writerow((one.case, NARROWED if one.narrowed else OTHERS, one.discs, *measures))
    with plan.staged() as staged:
        staged[output].write_text(text.getvalue(), "utf-8")
    say(f"{sum(one.narrowed for one in found)} of {len(found)} cases have a narrowed disc -> {output}")
    return output


def findings(data: Path) -> Iterator[Finding]:
    """What is found of each case that shows a disc.

    Raises:
        DataError: See :func:`write_groups`.
    """
    description = read_description(data)
    if DISC not in description.labels:
        raise DataError(
            f"{data.name} labels {', '.join(description.labels)}", f"a structure {DISC!r}", "name another data set"
        )
    files = find_files(data, description.ending)
    for case, path in files.masks.items():
        try:
            volume, truth = read_volume(files.images[case], modality="MR"), read_labels(path)
        except (VerdiffError, KeyError) as error:
            raise DataError(f"case {case}: {error}", "an image and its mask", "correct the data set") from error
        plan = plan_slices(volume.geometry, view="sagittal", spacing_mm=None)
        planes = plan.extract(truth.array) == description.labels[DISC]
        discs = discs_of(planes, plan.extract(volume.array), plan.pixel_spacing_mm)
        if discs:
            yield judged(case, discs)


def discs_of(
    masks: NDArray[np.bool_], images: NDArray[np.generic], spacing_mm: tuple[float, float]
) -> tuple[Disc, ...]:
    """The discs of a scan from the top down; those that the picture cuts are left out.

    Args:
        masks: Whether a pixel is disc, [slices, rows, columns]; rows run down, columns back.
        images: Grey values, same shape.
        spacing_mm: Row and column spacing.
    """
    parts, _ = ndimage.label(masks)
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        one, grey = parts[box] == number, images[box]
        if box[1].start == 0 or box[1].stop == masks.shape[1]:
            continue
        areas = one.sum(axis=(1, 2)) * spacing_mm[0] * spacing_mm[1]
        if areas.max() < SMALLEST_MM2:
            continue
        depths = [_depth_mm(one[index], spacing_mm) for index in np.flatnonzero(areas >= areas.max() / 2)]
        heights = areas[areas >= areas.max() / 2] / depths
        signals = [_middle(one[index], grey[index], spacing_mm) for index in np.flatnonzero(areas >= areas.max() / 2)]
        row = (box[1].start + box[1].stop) / 2
        found.append(Disc(row, float(np.median(heights)), float(np.median(depths)), float(np.median(signals))))
    return tuple(sorted(found, key=lambda disc: disc.row))


def judged(case: str, discs: tuple[Disc, ...]) -> Finding:
    """Whether one of a patient's discs, from the top down, is narrowed or collapsed."""
    pairs = list(pairwise(discs))
    beside = [below.height_mm / above.height_mm for above, below in pairs]
    narrowed = any(
        share < OF_THE_ONE_ABOVE and below.signal < above.signal
        for share, (above, below) in zip(beside, pairs, strict=True)
    )
    least = min(disc.height_mm / disc.depth_mm for disc in discs)
    return Finding(case, len(discs), min(beside, default=float("nan")), least, narrowed or least < OF_ITS_DEPTH)


def _depth_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> float:
    """Length of a mask [rows, columns] along its long axis, a pixel's own size included."""
    points = np.argwhere(mask) * np.array(spacing_mm)
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    along = centred @ axes[:, -1]
    return float(np.ptp(along)) + min(spacing_mm)


def _middle(mask: NDArray[np.bool_], grey: NDArray[np.generic], spacing_mm: tuple[float, float]) -> float:
    """Median grey value of the inner half of a mask."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1]
    return float(np.median(grey[inside >= inside.max() / 2]))
