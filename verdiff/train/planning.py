"""nnU-Net's plan for a data set: pixel spacing, patch, levels, widths and batch, from its fingerprint.

The rules of Isensee et al. 2021 (Nature Methods 18, online methods "Rule-based parameters") for the two-dimensional
configuration, with the constants of the published planner (nnunetv2, ``ExperimentPlanner``). Where verdiff differs:

- its pixels are square, so the target spacing is one number, the geometric mean of the two medians, to a hundredth of
  a millimetre. A data set that is trained in its own pixels (films) keeps them.
- intensities stay those of ``[data]``, where nnU-Net standardises each scan.
- the memory to plan for is a setting, since the default of 8 GB gives batches for a graphics card.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from verdiff.errors import DataError, VerdiffError

if TYPE_CHECKING:
    from verdiff.train.config import RunConfig

# What a plan decides.
DECIDED = ("data.spacing_mm", "network.widths", "network.pools", "training.crop", "training.batch")
SMALLEST_MAP = 4
LARGEST_PATCH = 2048
FIRST_WIDTH, MOST_WIDTH = 32, 512
CONVOLUTIONS_A_LEVEL = 2
SMALLEST_BATCH = 2
# A batch holds at most this share of the data set's pixels.
MOST_OF_DATA = 0.05
# What the published planner measured: this many activations an image fit in 8 GB with a batch of 12.
REFERENCE_ACTIVATIONS, REFERENCE_GB, REFERENCE_BATCH = 85_000_000, 8.0, 12
# Below it there are fewer than the four levels that deep supervision needs.
SMALLEST_PATCH = 32


@dataclass(frozen=True)
class Fingerprint:
    """What the plan depends on.

    Attributes:
        shapes: Slices, rows and columns of each case, in the model's view.
        spacings_mm: Row and column spacing of each case; None where pixels are taken as they are.
        structures: K, the foreground structures.
    """

    shapes: tuple[tuple[int, int, int], ...]
    spacings_mm: tuple[tuple[float, float], ...] | None
    structures: int


@dataclass(frozen=True)
class TrainingPlan:
    """What a network is trained with.

    Attributes:
        spacing_mm: Row and column spacing of the slices; None leaves them as they are.
        patch: Rows and columns of a training image.
        pools: How often rows and columns are halved.
        widths: Channels of each level.
        batch: Images of a batch.
    """

    spacing_mm: float | None
    patch: tuple[int, int]
    pools: tuple[int, int]
    widths: tuple[int, ...]
    batch: int


def planned(config: RunConfig, folder: Path, settings: Sequence[str] = ()) -> RunConfig:
    """``config`` with the sizes that the data set in ``folder`` asks for, where ``[network] planned`` is set.

    A configuration without that key, or with it off, is returned as it is. The plan depends on the data set alone, on
    no fold, so that a resumed run finds the same one.

    Args:
        config: A run's configuration.
        folder: An nnU-Net raw data set, whose scans are opened for their grids, or a cache, whose pixels stay.
        settings: What was set by hand, ``TABLE.KEY=VALUE`` each.

    Raises:
        DataError: The folder is neither, a scan cannot be read, slices are too small or the memory too little for
            four levels, or one of the settings is what a plan decides.
    """
    if not getattr(config.network, "planned", False):
        return config
    for setting in settings:
        if setting.partition("=")[0].strip() in DECIDED:
            raise DataError(
                f"the setting {setting!r} of a run that is planned from its data",
                f"settings of other keys than {', '.join(DECIDED)}",
                "add --set network.planned=false, and set all of them that should differ from the configuration's",
            )
    from verdiff.train.data.cases import INDEX, read_cache

    if (folder / INDEX).is_file():
        dataset = read_cache(folder)
        shapes = tuple(case.images.shape for case in dataset.cases)
        plan = make_plan(Fingerprint(shapes, None, len(dataset.labels)), config.network.memory_gb)
        spacing = dataset.preparation["spacing_mm"]
    else:
        plan = make_plan(_fingerprint(folder, config), config.network.memory_gb)
        spacing = plan.spacing_mm
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, spacing_mm=spacing),
        network=dataclasses.replace(config.network, widths=plan.widths, pools=plan.pools),
        training=dataclasses.replace(config.training, crop=plan.patch, batch=plan.batch),
    )


def _fingerprint(folder: Path, config: RunConfig) -> Fingerprint:
    """The fingerprint of a raw data set."""
    from verdiff.imaging.reading import read_volume
    from verdiff.imaging.slicing import plan_slices
    from verdiff.train.data.layout import find_files, read_description

    description = read_description(folder)
    shapes, spacings = [], []
    for name, path in find_files(folder, description.ending).images.items():
        try:
            geometry = read_volume(path, orientation=config.data.orientation).geometry
        except VerdiffError as error:
            raise DataError(f"case {name}: {error.found}", error.expected, error.remedy) from error
        slices = plan_slices(geometry, view=config.data.view, spacing_mm=None)  # type: ignore[arg-type]
        shapes.append((slices.slices, slices.scan_rows, slices.scan_cols))
        spacings.append(slices.pixel_spacing_mm)
    as_they_are = config.data.spacing_mm is None
    return Fingerprint(tuple(shapes), None if as_they_are else tuple(spacings), len(description.labels))


def make_plan(data: Fingerprint, memory_gb: float = REFERENCE_GB) -> TrainingPlan:
    """The plan for a data set.

    Args:
        data: Its fingerprint.
        memory_gb: Memory of the graphics card that nnU-Net's reckoning is about.

    Raises:
        DataError: Slices are too small, or the memory is too little, for four levels.
    """
    shapes = np.array(data.shapes, dtype=np.float64)
    spacing = None
    if data.spacings_mm is not None:
        found = np.array(data.spacings_mm)
        spacing = max(0.01, round(float(np.exp(np.log(np.median(found, axis=0)).mean())), 2))
        shapes[:, 1:] = np.round(shapes[:, 1:] * found / spacing)
    slices, rows, cols = (float(median) for median in np.median(shapes, axis=0))
    patch, pools = _fitted((min(LARGEST_PATCH, math.ceil(rows)), min(LARGEST_PATCH, math.ceil(cols))))
    budget = REFERENCE_ACTIVATIONS * memory_gb / REFERENCE_GB
    while (
        min(patch) >= SMALLEST_PATCH
        and activations(patch, pools, data.structures) * SMALLEST_BATCH / REFERENCE_BATCH > budget
    ):
        patch, pools = _shrunk(patch, pools, (rows, cols))
    if min(patch) < SMALLEST_PATCH:
        raise DataError(
            f"slices of {rows:.0f} x {cols:.0f} pixels ({spacing or 'their own'} mm) and {memory_gb:g} GB to plan for",
            f"training images of at least {SMALLEST_PATCH} x {SMALLEST_PATCH} pixels",
            "raise memory_gb in [network], or set planned = false and the sizes by hand",
        )
    fits = round(budget / activations(patch, pools, data.structures) * REFERENCE_BATCH)
    share = round(MOST_OF_DATA * slices * rows * cols * len(shapes) / math.prod(patch))
    return TrainingPlan(spacing, patch, pools, widths_for(pools), max(SMALLEST_BATCH, min(fits, share)))


def widths_for(pools: tuple[int, int]) -> tuple[int, ...]:
    """Channels of each level: doubled at each halving, 512 at most."""
    return tuple(min(MOST_WIDTH, FIRST_WIDTH * 2**level) for level in range(max(pools) + 1))


def halvings(rows: int, cols: int) -> tuple[int, int]:
    """How often each axis is halved before its map would be smaller than four pixels; one axis may go on alone."""
    sizes, pools = [rows, cols], [0, 0]
    while True:
        ready = [axis for axis in (0, 1) if sizes[axis] >= 2 * SMALLEST_MAP]
        if not ready or (len(ready) == 1 and sizes[ready[0]] < 3 * SMALLEST_MAP):
            return pools[0], pools[1]
        for axis in ready:
            pools[axis] += 1
            sizes[axis] = -(-sizes[axis] // 2)


def activations(patch: tuple[int, int], pools: tuple[int, int], structures: int) -> int:
    """Numbers that the convolutions of one training image give: nnU-Net's measure of the memory it takes."""
    widths = widths_for(pools)
    maps = [
        math.prod(side // 2 ** min(level, most) for side, most in zip(patch, pools, strict=True))
        for level in range(len(widths))
    ]
    encoder = sum(CONVOLUTIONS_A_LEVEL * width * size for width, size in zip(widths, maps, strict=True))
    # Behind its upsampling a decoder level has as many convolutions as its encoder level.
    decoder = sum((CONVOLUTIONS_A_LEVEL + 1) * width * size for width, size in zip(widths[:-1], maps[:-1], strict=True))
    return encoder + decoder + (structures + 1) * maps[0]


def _fitted(patch: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The patch, grown to what its halvings divide, and the halvings."""
    pools = halvings(*patch)
    rows, cols = (-(-side // 2**most) * 2**most for side, most in zip(patch, pools, strict=True))
    return (rows, cols), pools


def _shrunk(
    patch: tuple[int, int], pools: tuple[int, int], median: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The next smaller patch: shorter along the axis that covers most of the median image."""
    covered = [side / most for side, most in zip(patch, median, strict=True)]
    axis = max((0, 1), key=lambda index: (covered[index], index))
    smaller = list(patch)
    smaller[axis] -= 2 ** pools[axis]
    # A shorter axis may be halved less often, and then needs less to be taken from it.
    step = 2 ** halvings(*smaller)[axis]
    smaller = list(patch)
    smaller[axis] -= step
    return _fitted((smaller[0], smaller[1]))
