"""A case as one volume on a 3D system's grid: the very resampling that a scan goes through when the model is run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verdiff.errors import DataError
from verdiff.imaging.intensity import IntensityRule, intensity_bounds
from verdiff.imaging.picture import picture_of
from verdiff.imaging.volume import Volume
from verdiff.imaging.volume_plan import plan_volume
from verdiff.train.config import DataConfig, RunConfig
from verdiff.train.data.cases import CaseSlices

# Prepared volumes keep their own extent; what a window lacks is padded when it is cut out.
NO_PADDING = (1, 1, 1)
# Whole voxels fit into an extent, so a prepared pitch differs a little from the one that was asked for.
PITCH_TOLERANCE = 0.2


def volume_case(name: str, volume: Volume, truth: Volume, ids: Sequence[int], config: DataConfig) -> CaseSlices:
    """The scan and its mask on the grid of ``config``, without padding.

    Args:
        name: Name of the case.
        volume: The scan.
        truth: Its mask, on the same grid.
        ids: Label ids of the structures, in the order of the channels.
        config: Configuration with ``spacing_mm`` and ``slice_spacing_mm``.

    Raises:
        DataError: One of the two spacings is missing.
    """
    if config.spacing_mm is None or config.slice_spacing_mm is None:
        raise _no_grid(config)
    spacing = (config.slice_spacing_mm, config.spacing_mm, config.spacing_mm)
    plan = plan_volume(
        volume.geometry,
        view=config.view,  # type: ignore[arg-type]
        spacing_mm=spacing,
        patch=NO_PADDING,
        crop=config.crop,
    )
    rule = IntensityRule(config.intensity_kind, config.intensity_low, config.intensity_high)  # type: ignore[arg-type]
    # As the runtime has them: margins that show nothing do not count.
    read = plan.reader(volume.array, intensity_bounds(volume.array[picture_of(volume.array)], rule))
    images = read(slice(0, plan.slices)).astype(np.float16)
    slices, rows, cols = plan.spacing_mm
    return CaseSlices(name, images, plan.labels_to_model(truth.array, ids), (rows, cols, slices))


def require_volumes(cases: Sequence[CaseSlices], config: RunConfig) -> None:
    """Refuse, before training begins, what a 3D system cannot use.

    Raises:
        DataError: The configuration names no grid, or has a key that only slices have; or a case was prepared for
            another grid, as a cache made with a 2D configuration was.
    """
    data, training = config.data, config.training
    if data.spacing_mm is None or data.slice_spacing_mm is None:
        raise _no_grid(data)
    for key, value, wanted in (
        ("[training] crop", training.crop, None),
        ("[training] validate_slices", training.validate_slices, 1),
        ("[augment] small_field", config.augment.small_field, 0.0),
    ):
        if value != wanted:
            raise DataError(
                f"{key} = {value!r} for {config.system}, a 3D system",
                f"{wanted!r}: windows have the size of [network] patch, and all slices of a volume count",
                "correct the configuration",
            )
    wanted_mm = (data.spacing_mm, data.spacing_mm, data.slice_spacing_mm)
    for case in cases:
        counts = (case.images.shape[1], case.images.shape[2], case.images.shape[0])
        for count, pitch, asked in zip(counts, case.spacing_mm, wanted_mm, strict=True):
            # Half a voxel more or less over the whole extent is all that rounding can do.
            if abs(pitch - asked) > asked * max(PITCH_TOLERANCE, 1 / count):
                raise DataError(
                    f"case {case.name} has voxels of {', '.join(f'{mm:.3g}' for mm in case.spacing_mm)} mm",
                    f"{', '.join(f'{mm:.3g}' for mm in wanted_mm)} mm (rows, columns, slices) of the configuration",
                    f"prepare the data set again: verdiff train {config.model_id} --prepare",
                )


def _no_grid(data: DataConfig) -> DataError:
    return DataError(
        f"spacing_mm = {data.spacing_mm}, slice_spacing_mm = {data.slice_spacing_mm} for a 3D system",
        "both, in millimetres: the grid that its windows lie on",
        "set them in the [data] table of the configuration",
    )
