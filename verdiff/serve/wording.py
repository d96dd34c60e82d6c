"""Scans and errors as plain JSON values, for the way between two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from verdiff import errors
from verdiff.imaging import Geometry, Volume


def describe_volume(volume: Volume) -> dict[str, Any]:
    """A scan without its voxels; of its file the name alone."""
    return {
        "size": list(volume.geometry.size),
        "spacing_mm": list(volume.geometry.spacing_mm),
        "origin_mm": list(volume.geometry.origin_mm),
        "direction": list(volume.geometry.direction),
        "oriented": volume.geometry.oriented,
        "dtype": volume.array.dtype.str,
        "modality": volume.modality,
        "name": None if volume.source is None else volume.source.name,
        "notes": list(volume.notes),
    }


def volume_of(described: dict[str, Any], array: NDArray[Any]) -> Volume:
    """The scan that :func:`describe_volume` described."""
    geometry = Geometry(
        tuple(described["size"]),
        tuple(described["spacing_mm"]),
        tuple(described["origin_mm"]),
        tuple(described["direction"]),
        described["oriented"],
    )
    source = None if described["name"] is None else Path(described["name"])
    return Volume(array, geometry, described["modality"], source, notes=tuple(described["notes"]))


def describe_error(error: errors.VerdiffError) -> dict[str, Any]:
    """An error by its name and its three parts."""
    return {
        "error": type(error).__name__,
        "found": error.found,
        "expected": error.expected,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
    }


def error_of(described: dict[str, Any]) -> errors.VerdiffError:
    """The error that :func:`describe_error` described."""
    from verdiff.runtime import Cancelled

    known: list[type[errors.VerdiffError]] = [Cancelled, *errors.family()]
    named = {kind.__name__: kind for kind in known}
    return named.get(described["error"], errors.VerdiffError)(
        described["found"], described["expected"], described["remedy"]
    )
