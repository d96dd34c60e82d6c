"""SPIDER: lumbar MR of patients with low back pain (van der Graaf et al. 2024, doi 10.1038/s41597-024-03090-w).

The public download (Zenodo, record 10159290) unpacks to ``images/N_t1.mha``, ``N_t2.mha``, ``N_t2_SPACE.mha`` and masks
of the same names in ``masks/``. Ids, counted from the bottom up: 1 to 25 vertebrae (1 is the lowest, taken for L5),
101 to 125 vertebrae that are partly outside the image, 201 to 225 the disc under each, 100 the spinal canal. The sacrum
is not labelled. (101 to 125 is from the challenge's page as remembered; an id outside all of these is refused.)
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from verdiff.errors import DataError
from verdiff.imaging.slicing import SlicePlan, plan_slices
from verdiff.imaging.volume import Array, Geometry, Volume
from verdiff.train.data.convert.conversion import (
    Conversion,
    Converter,
    ConvertOptions,
    Labels,
    Sample,
    SourceCase,
    ids_in_mask,
    nothing_found,
    read_pair,
    within,
)
from verdiff.train.data.convert.levels import (
    CANAL,
    PRESACRAL,
    STRUCTURES,
    LabelMeaning,
    disc_below,
    from_below,
    vertebra,
)
from verdiff.train.data.layout import GRID_TOLERANCE_MM

CONTRASTS = {"t1": "t1", "t2": "t2", "t2_SPACE": "space"}
CANAL_ID = 100
MEANINGS: dict[int, LabelMeaning] = {
    CANAL_ID: CANAL,
    **{number: vertebra(from_below(number)) for number in range(1, len(PRESACRAL) + 1)},
    **{100 + number: vertebra(from_below(number)) for number in range(1, len(PRESACRAL) + 1)},
    **{200 + number: disc_below(from_below(number)) for number in range(1, len(PRESACRAL) + 1)},
}
# One id that stands for each structure while pixels vote.
_FIRST = {
    structure: min(value for value, meaning in MEANINGS.items() if meaning.structure == structure)
    for structure in ("vertebra", "disc", "canal")
}
# The slices of Dataset101_SpineMR hold at least 0.16 of the canal that the fullest slice of their scan holds.
MIDLINE_SHARE = 0.15
# The brightest voxels of a scan, a thousandth, are not given grey levels of their own.
_BRIGHTEST = 99.9
_NAME = re.compile(r"(\d+)_(t1|t2|t2_SPACE)\.mha")
LAYOUT = "images/N_t1.mha, N_t2.mha or N_t2_SPACE.mha, and masks/ with files of the same names"


def find(source: Path, options: ConvertOptions) -> Conversion:
    """The series of a download, one case each; a patient's series stay in one fold.

    With ``midline`` each series becomes what ``Dataset101_SpineMR`` holds (T2 SPACE, or the ``contrasts`` asked for):
    the slices near the midline, 8 bits, and 2 x 2 pixels in one. Which slices and which grey window that data set took
    is stated nowhere; here slices are kept while they hold 15 % of the canal of the fullest one, and grey levels run
    from the scan's darkest voxel to its 99.9th percentile. The rules for pixels and classes are those of that data set.

    Raises:
        DataError: No series, a file with another name among them, or an unknown contrast.
    """
    unknown = sorted(set(options.contrasts) - set(CONTRASTS))
    if unknown:
        raise DataError(f"the contrast {unknown[0]!r}", f"of {', '.join(CONTRASTS)}", "correct --contrasts")
    wanted = options.contrasts or (("t2_SPACE",) if options.midline else tuple(CONTRASTS))
    series: dict[tuple[int, str], dict[str, Path]] = {}
    for part in ("images", "masks"):
        # Some tools unpack images.zip into a folder of its name: images/images.
        for path in within(source / part, "*.mha", None):
            match = _NAME.fullmatch(path.name)
            if match is None:
                raise DataError(f"{part}/{path.name}", LAYOUT, "remove it, or correct its name")
            if match[2] not in wanted:
                continue
            files = series.setdefault((int(match[1]), match[2]), {})
            if part in files:
                raise DataError(
                    f"{path.name} twice below {part}/", "each series once", "remove one copy of the unpacked files"
                )
            files[part] = path
    if not series:
        raise nothing_found(source, LAYOUT)
    cases = []
    for (number, contrast), files in sorted(series.items()):
        patient = f"spider{number:03d}"
        name = patient if len(wanted) == 1 else f"{patient}_{CONTRASTS[contrast]}"
        cases.append(SourceCase(name, patient, files.get("images"), files.get("masks")))
    note = "the lowest vertebra is taken for L5, as SPIDER counts; a spine with four or six lumbar ones is shifted"
    weighting = {contrast[:2].upper() for contrast in wanted}
    return Conversion(
        channel=weighting.pop() if len(weighting) == 1 else "MR",
        ending=".nii.gz",
        meanings=MEANINGS,
        cases=tuple(cases),
        read=partial(_read_near_midline, labels=options.labels) if options.midline else read_pair,
        ids=_ids_near_midline if options.midline else ids_in_mask,
        notes=(note,) if options.labels == "levels" else (),
    )


def _read_near_midline(case: SourceCase, *, labels: Labels) -> Sample:
    image, mask = read_pair(case)
    if not image.geometry.matches(mask.geometry, GRID_TOLERANCE_MM):
        # Left as they are: refused by name when they are written.
        return image, mask
    ids = mask.array.astype(np.int32)
    if labels == "structures":
        # Classes vote, not instances: a pixel between two vertebrae is a vertebra.
        for value in np.unique(mask.array):
            if int(value) in MEANINGS:
                ids[mask.array == value] = _FIRST[MEANINGS[int(value)].structure]
    plan = plan_slices(image.geometry, view="sagittal", spacing_mm=None)
    planes = plan.extract(ids)
    kept = near_midline((planes == CANAL_ID).sum(axis=(1, 2)))
    geometry = _halved(plan, image.geometry, kept)
    grey = _blocks(plan.extract(_eight_bits(image.array))[kept])
    # Rounded to even, as numpy does.
    halved = np.rint(grey.mean(axis=-1, dtype=np.float32)).astype(np.uint8)
    return Volume(halved, geometry, "MR"), Volume(_vote(_blocks(planes[kept])), geometry)


def _ids_near_midline(case: SourceCase) -> frozenset[int]:
    return frozenset(int(value) for value in np.unique(_read_near_midline(case, labels="levels")[1].array))


def near_midline(canal: Array) -> slice:
    """The run of slices around the fullest one that hold at least ``MIDLINE_SHARE`` of its canal.

    Args:
        canal: Canal voxels in each sagittal slice, [slices].

    Raises:
        DataError: There is no canal.
    """
    if not canal.any():
        raise DataError("no slice shows the canal", f"a mask with the id {CANAL_ID}", "convert it without --midline")
    enough = canal >= MIDLINE_SHARE * canal.max()
    start = stop = int(canal.argmax())
    while start > 0 and enough[start - 1]:
        start -= 1
    while stop + 1 < len(enough) and enough[stop + 1]:
        stop += 1
    return slice(start, stop + 1)


def _eight_bits(array: Array) -> Array:
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(np.percentile(array, _BRIGHTEST))
    scaled = (array.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _blocks(planes: Array) -> Array:
    """Planes [n, H, W] as the four pixels of every block, [n, H // 2, W // 2, 4]; an odd last line is dropped."""
    slices, rows, cols = planes.shape[0], planes.shape[1] // 2, planes.shape[2] // 2
    cut = planes[:, : 2 * rows, : 2 * cols].reshape(slices, rows, 2, cols, 2)
    return cut.transpose(0, 1, 3, 2, 4).reshape(slices, rows, cols, 4)


def _vote(blocks: Array) -> Array:
    """The id that at least two of four pixels have, the first structure's in a draw; background where none has."""
    won = np.zeros(blocks.shape[:3], np.int32)
    votes = np.ones(won.shape, np.int8)
    present = [int(value) for value in np.unique(blocks) if value]
    for value in sorted(present, key=_voting_order):
        count = (blocks == value).sum(axis=-1, dtype=np.int8)
        won[count > votes] = value
        np.maximum(votes, count, out=votes)
    return won


def _voting_order(value: int) -> tuple[int, int]:
    known = MEANINGS.get(value)
    return (STRUCTURES.index(known.structure) if known else len(STRUCTURES)), value


def _halved(plan: SlicePlan, geometry: Geometry, kept: slice) -> Geometry:
    """The grid of the kept slices with 2 x 2 pixels in one: x along columns, y along rows, z along slices."""
    voxel_axes = [2 - axis for axis in plan.permutation][::-1]
    flips = plan.flips[::-1]
    corner = [0.0, 0.0, 0.0]
    steps = (0.5, 0.5, float(kept.start))
    for axis, flip, step in zip(voxel_axes, flips, steps, strict=True):
        corner[axis] = geometry.size[axis] - 1 - step if flip else step
    columns = [geometry.matrix[:, axis] * (-1 if flip else 1) for axis, flip in zip(voxel_axes, flips, strict=True)]
    origin = geometry.index_to_mm(corner)
    return Geometry(
        size=(plan.scan_cols // 2, plan.scan_rows // 2, kept.stop - kept.start),
        spacing_mm=(2 * plan.pixel_spacing_mm[1], 2 * plan.pixel_spacing_mm[0], plan.slice_spacing_mm),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in np.stack(columns, axis=1).ravel()),
    )


SPIDER = Converter(
    name="spider",
    title="SPIDER: lumbar spine MR, T1, T2 and T2 SPACE",
    source="van der Graaf et al., Scientific Data 2024, doi 10.1038/s41597-024-03090-w; Zenodo record 10159290",
    licence="CC BY 4.0",
    find=find,
    options=frozenset({"labels", "contrasts", "midline"}),
)
