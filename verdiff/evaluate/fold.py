"""The labelled scans of one fold of an nnU-Net raw data set, for whoever scores a model on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError
from verdiff.evaluate.cases import check_same_grid, validation_cases
from verdiff.imaging import Geometry, Volume, read_labels, read_volume
from verdiff.progress import tracked


@dataclass(frozen=True)
class LabelledScan:
    """A scan and its true mask on the same grid, label ids [z, y, x]."""

    name: str
    volume: Volume
    truth: NDArray[np.integer]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing (z, y, x)."""
        x, y, z = self.volume.geometry.spacing_mm
        return z, y, x

    def thinned(self, axis: int, every: int) -> LabelledScan:
        """Every ``every``-th plane along an axis of the array, from the middle of the first few on."""
        if every == 1:
            return self
        chosen = np.arange(self.truth.shape[axis])[every // 2 :: every]
        geometry = self.volume.geometry
        along = 2 - axis
        first = [float(chosen[0]) if i == along else 0.0 for i in range(3)]
        size, spacing = list(geometry.size), list(geometry.spacing_mm)
        size[along], spacing[along] = len(chosen), spacing[along] * every
        thin = Geometry(
            (size[0], size[1], size[2]),
            (spacing[0], spacing[1], spacing[2]),
            tuple(float(v) for v in geometry.index_to_mm(first)),  # type: ignore[arg-type]
            geometry.direction,
        )
        array = np.ascontiguousarray(np.take(self.volume.array, chosen, axis=axis))
        volume = replace(self.volume, array=array, geometry=thin, nifti_header=None)
        return LabelledScan(self.name, volume, np.take(self.truth, chosen, axis=axis))


def labelled_scans(data: Path, fold: int, *, modality: str | None = None) -> Iterator[LabelledScan]:
    """The validation cases of ``fold``, one at a time.

    Args:
        data: The data set's folder.
        fold: Number of a fold in its ``splits_final.json``.
        modality: What the scans are, which NIfTI does not say.

    Raises:
        DataError: There is no usable ``dataset.json``, no such fold, or a mask is not on its scan's grid.
        InputError: A file cannot be read.
    """
    yield from scans_of(data, validation_cases(data / "splits_final.json", fold), modality=modality)


def scans_of(
    data: Path, cases: Iterable[str], *, modality: str | None = None, orientation: str | None = None
) -> Iterator[LabelledScan]:
    """Cases of an nnU-Net raw data set with their masks, one at a time.

    Args:
        data: The data set's folder.
        cases: Their names.
        modality: What the scans are, which NIfTI does not say.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.

    Raises:
        DataError: There is no usable ``dataset.json``, or a mask is not on its scan's grid.
        InputError: A file cannot be read.
    """
    ending = file_ending(data)
    for name in tracked(list(cases)):
        scan, mask = data / "imagesTr" / f"{name}_0000{ending}", data / "labelsTr" / f"{name}{ending}"
        volume = read_volume(scan, modality=modality, orientation=orientation)
        truth = read_labels(mask, orientation=orientation)
        check_same_grid(name, (mask, truth.geometry), (scan, volume.geometry))
        yield LabelledScan(name, volume, truth.array)


def cases_of(data: Path) -> list[str]:
    """The labelled cases of an nnU-Net raw data set, in alphabetical order.

    Raises:
        DataError: There is no usable ``dataset.json``, or no mask.
    """
    ending = file_ending(data)
    masks = (path for path in (data / "labelsTr").glob(f"*{ending}") if not path.name.startswith("."))
    names = sorted(path.name.removesuffix(ending) for path in masks)
    if not names:
        raise DataError(f"no mask in {data.name}/labelsTr", f"masks ending in {ending}", "check the data set")
    return names


def further_channels(data: Path) -> tuple[str, ...]:
    """The channels of an nnU-Net raw data set beside the first, such as ``0001``, which no model of verdiff takes.

    Raises:
        DataError: There is no usable ``dataset.json``.
    """
    ending = file_ending(data)
    names = (path.name.removesuffix(ending) for path in (data / "imagesTr").glob(f"*_????{ending}"))
    found = {name.rpartition("_")[2] for name in names if not name.startswith(".")}
    return tuple(sorted(channel for channel in found if channel.isdecimal() and channel != "0000"))


def file_ending(data: Path) -> str:
    """The suffix of every image of an nnU-Net raw data set.

    Raises:
        DataError: There is no usable ``dataset.json``.
    """
    try:
        return str(json.loads((data / "dataset.json").read_text("utf-8"))["file_ending"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{data.name} has no usable dataset.json ({error})",
            "an nnU-Net raw data set",
            "check the data set's folder",
        ) from error
