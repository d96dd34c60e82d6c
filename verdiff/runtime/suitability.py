"""Does this scan look like what the model was trained on? Every reason against it, in words.

Only what would make the mask meaningless counts: the wrong modality, the wrong view, pixels far outside the training
range. A scanner or a sequence the model has not seen is not refused; nothing in the file would tell how it does there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verdiff.errors import UnsuitableScanError
from verdiff.imaging import Volume, acquisition_view
from verdiff.imaging.masklike import labels_of_mask
from verdiff.imaging.padding import padding_below
from verdiff.imaging.volume import FILM

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan

MODALITY_NAMES = {"MR": "an MR scan", "CT": "a CT scan", FILM: "a film (X-ray)"}

# Magnitude MR has no negative numbers and normalised MR only small ones; fat in CT lies near -100 Hounsfield units.
HOUNSFIELD_BELOW = -50.0
HOUNSFIELD_SHARE = 0.005
FAT_BAND = (-200.0, -50.0)
# Beyond the pixel sizes of the training data: finer is averaged away in resampling, coarser has lost the structures.
FINER, COARSER = 4.0, 2.0
# A stack's slices may be this much further apart than its pixels and still be whole vertebrae.
MAX_SLICE_SPACING_MM = 12.0


def unsuitable_reasons(volume: Volume, manifest: Manifest, plan: SlicePlan) -> tuple[str, ...]:
    """Why ``volume`` does not look like the training data of the model; empty when it does.

    Args:
        volume: The scan; its modality may be unknown (NIfTI does not say).
        manifest: The model's; ``suitability["pixel_spacing_mm"]`` is the [least, most] of its training data.
        plan: The model's slices of this scan.
    """
    reasons = []
    if (labels := labels_of_mask(volume.array)) is not None:
        reasons.append(f"it looks like a mask: it has {labels} different values, each in areas of its own")
    found = _modality(volume)
    if found is not None and found != manifest.modality:
        evidence = "" if volume.modality is not None else " by its intensities"
        name = MODALITY_NAMES.get(found, f"of modality {found}")
        reasons.append(f"it is {name}{evidence}, the model is for {MODALITY_NAMES[manifest.modality]}")
    reasons += _view_reasons(volume, manifest)
    if manifest.view != "film" and not any("view" in reason or "film" in reason for reason in reasons):
        reasons += _spacing_reasons(manifest, plan)
    pixels = plan.padded_rows * plan.padded_cols
    if pixels > manifest.max_pixels:
        reasons.append(
            f"a slice is {plan.padded_rows} x {plan.padded_cols} pixels at {manifest.spacing_mm:g} mm, "
            f"the model takes {manifest.max_pixels} pixels at most"
        )
    return tuple(reasons)


def require_suitable(reasons: tuple[str, ...], manifest: Manifest, *, force: bool) -> None:
    """Raise unless there is no reason against the scan or ``force`` is given.

    Raises:
        UnsuitableScanError: With every reason.
    """
    if reasons and not force:
        raise UnsuitableScanError(
            "the scan does not look like the training data: " + "; ".join(reasons),
            f"a {manifest.view if manifest.view != 'film' else 'plain'} {manifest.modality} scan with pixels near "
            f"{manifest.spacing_mm:g} mm, for {manifest.model_id}",
            "choose a model for this scan ('verdiff models'), or go on with --force (force=True), which is recorded",
        )


def _modality(volume: Volume) -> str | None:
    """What the file says, else what the intensities say: "CT" for Hounsfield units, "MR" or None where they do not."""
    if volume.modality is not None:
        return FILM if volume.film else volume.modality
    if acquisition_view(volume.geometry) == "film":
        return None
    values = volume.array
    if values.dtype.kind == "u":
        return "MR"
    padding = padding_below(values)
    if padding is not None:
        values = values[values > padding]
    below = np.count_nonzero(values < HOUNSFIELD_BELOW)
    if padding is not None:
        # At the edge of the padding an interpolation leaves every value between it and the image, a few of each.
        low, high = FAT_BAND
        fat = np.count_nonzero((values > low) & (values < high))
        return "CT" if fat > HOUNSFIELD_SHARE * values.size else "MR"
    if below > HOUNSFIELD_SHARE * values.size:
        return "CT"
    # Without a negative number anywhere it is not in Hounsfield units; which of the others it is, is not known.
    return None if below else "MR"


def _view_reasons(volume: Volume, manifest: Manifest) -> list[str]:
    view = acquisition_view(volume.geometry)
    if volume.film:
        view = "film"
    if view == manifest.view or (view == "isotropic" and manifest.view != "film"):
        return []
    name = {"film": "a single plane, as a film is", "isotropic": "a volume"}.get(view, f"a stack of {view} slices")
    wanted = "films" if manifest.view == "film" else f"the {manifest.view} view"
    return [f"it is {name}, the model is for {wanted}"]


def _spacing_reasons(manifest: Manifest, plan: SlicePlan) -> list[str]:
    low, high = manifest.suitability.get("pixel_spacing_mm", (manifest.spacing_mm, manifest.spacing_mm))
    finest, coarsest = min(low, manifest.spacing_mm) / FINER, max(high, manifest.spacing_mm) * COARSER
    reasons = []
    if not all(finest <= pitch <= coarsest for pitch in plan.pixel_spacing_mm):
        rows, cols = plan.pixel_spacing_mm
        reasons.append(
            f"its pixels in the {manifest.view} view are {rows:g} x {cols:g} mm, the model takes "
            f"{finest:.2g} to {coarsest:.2g} mm"
        )
    widest = max(MAX_SLICE_SPACING_MM, *manifest.suitability.get("slice_spacing_mm", (0.0, 0.0)))
    if plan.slice_spacing_mm > widest:
        reasons.append(f"its slices are {plan.slice_spacing_mm:g} mm apart, the model takes {widest:g} mm at most")
    return reasons
