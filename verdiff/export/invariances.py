"""What must not change a mask: black margins, a narrower field, another orientation, grey units, 8 bits, slice order.

Each change is made to real slices and put through :class:`verdiff.runtime.Segmenter` as a scan would be. The Dice
between the mask before and after says how much of the mask hangs on something that is no part of the spine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle, Manifest
from verdiff.errors import VerificationError
from verdiff.evaluate.overlap import dice_of, overlap
from verdiff.export.precision.networks import PatientSlices
from verdiff.imaging import Geometry, Volume
from verdiff.imaging.slicing import canonical_direction
from verdiff.runtime import Segmenter

# Dice of each structure, between the mask of a scan and that of the changed scan.
LEAST_DICE = 0.995
MARGIN_SHARE = 0.25
FIELD_MM = 30.0
# What separates the slices of a stack; they come from as many patients, so nothing is read across them.
SLICE_MM = 4.0
_GREY = 1000

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Changed:
    """A changed scan, and how its mask and the one of the scan as it was are compared.

    Attributes:
        volume: The changed scan.
        before: The mask of the scan as it was, on the voxels that are compared.
        after: Takes the changed scan's mask to the same voxels.
    """

    volume: Volume
    before: Callable[[Mask], Mask]
    after: Callable[[Mask], Mask]


Change = Callable[[Volume, Mask], Changed]


def stacks_of(patients: Sequence[PatientSlices], manifest: Manifest) -> list[Volume]:
    """The slices of a gate's patients as scans in the model's view: one stack, or films one by one."""
    planes = np.concatenate([patient.image[:, 0] for patient in patients])
    grey = np.rint((planes + 1) / 2 * _GREY).astype(np.int16)
    spacing = (manifest.spacing_mm, manifest.spacing_mm, SLICE_MM)
    rows, cols = grey.shape[1:]
    if manifest.view == "film":
        return [Volume(plane[None], Geometry((cols, rows, 1), spacing), manifest.modality) for plane in grey]
    direction = canonical_direction(manifest.view)  # type: ignore[arg-type]
    return [Volume(grey, Geometry((cols, rows, len(grey)), spacing, direction=direction), manifest.modality)]


def margins(volume: Volume, mask: Mask) -> Changed:
    """A quarter more rows and columns of the darkest grey on every side."""
    widths = [(0, 0), *((round(MARGIN_SHARE * side),) * 2 for side in volume.array.shape[1:])]
    padded = np.pad(volume.array, widths, constant_values=volume.array.min())
    return Changed(_on_new_grid(volume, padded), lambda before: np.pad(before, widths), lambda after: after)


def narrow_field(volume: Volume, mask: Mask) -> Changed:
    """Rows and columns up to 30 mm around what the mask shows."""
    reach = round(FIELD_MM / volume.geometry.spacing_mm[0])
    part: list[slice] = [slice(None)]
    for axis in (1, 2):
        found = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, mask.shape[axis] - 1)
        part.append(slice(max(0, first - reach), min(mask.shape[axis], last + reach + 1)))
    window = tuple(part)
    return Changed(_on_new_grid(volume, volume.array[window]), lambda before: before[window], lambda after: after)


def other_orientation(volume: Volume, mask: Mask) -> Changed:
    """Axes stored in reverse order, and the last of them backwards."""
    geometry = volume.geometry
    array = np.ascontiguousarray(volume.array.transpose(2, 1, 0)[::-1])
    matrix = geometry.matrix[:, ::-1].copy()
    matrix[:, 2] *= -1
    first = geometry.index_to_mm([geometry.size[0] - 1.0, 0.0, 0.0])
    turned = Geometry(
        (geometry.size[2], geometry.size[1], geometry.size[0]),
        (geometry.spacing_mm[2], geometry.spacing_mm[1], geometry.spacing_mm[0]),
        (float(first[0]), float(first[1]), float(first[2])),
        tuple(float(cosine) for cosine in matrix.ravel()),
    )
    return Changed(
        replace(volume, array=array, geometry=turned),
        lambda before: before,
        lambda after: after[::-1].transpose(2, 1, 0),
    )


def other_units(volume: Volume, mask: Mask) -> Changed:
    """Grey values times 3, plus 100."""
    return _recoloured(volume, volume.array.astype(np.int32) * 3 + 100)


def eight_bits(volume: Volume, mask: Mask) -> Changed:
    """Grey values as 0 to 255."""
    low, high = float(volume.array.min()), float(volume.array.max())
    return _recoloured(volume, np.rint((volume.array - low) * (255 / max(high - low, 1))).astype(np.uint8))


def other_order(volume: Volume, mask: Mask) -> Changed:
    """The slices in another order, so that each meets another noise and other neighbours."""
    order = np.roll(np.arange(len(volume.array))[::-1], 1)
    return Changed(
        replace(volume, array=np.ascontiguousarray(volume.array[order])),
        lambda before: before,
        lambda after: after[np.argsort(order)],
    )


CHANGES: Mapping[str, Change] = {
    "zero margins": margins,
    "30 mm around the spine": narrow_field,
    "another orientation": other_orientation,
    "times 3, plus 100": other_units,
    "8 bits": eight_bits,
    "slices in another order": other_order,
}


def _recoloured(volume: Volume, array: NDArray[Any]) -> Changed:
    return Changed(replace(volume, array=array), lambda before: before, lambda after: after)


def _on_new_grid(volume: Volume, array: NDArray[Any]) -> Volume:
    size = (array.shape[2], array.shape[1], array.shape[0])
    return replace(volume, array=np.ascontiguousarray(array), geometry=replace(volume.geometry, size=size))


def measure_invariances(
    bundle: Bundle, patients: Sequence[PatientSlices], say: Callable[[str], None]
) -> dict[str, Any]:
    """Put changed scans through a bundle, and compare their masks.

    Args:
        bundle: A model that takes slices.
        patients: Real slices.
        say: Told the smallest Dice of each change.

    Returns:
        The manifest's record: the limit, how many slices, Dice by change and structure, and which changes fall below
        the limit. A structure that neither mask shows has no Dice. A model without any mask has none at all.
    """
    manifest = bundle.manifest
    stacks = stacks_of(patients, manifest)
    one_plane = manifest.view == "film"
    changes = {
        name: change
        for name, change in CHANGES.items()
        if not (one_plane and change in (other_orientation, other_order))
    }
    counts = {name: np.zeros((len(manifest.labels), 2), np.int64) for name in changes}
    ids = [label.id for label in manifest.labels]
    with Segmenter.load(bundle.path) as segmenter:
        for stack in stacks:
            mask = segmenter.segment(stack, force=True).labels
            for name, change in changes.items():
                changed = change(stack, mask)
                before = changed.before(mask)
                after = changed.after(segmenter.segment(changed.volume, force=True).labels)
                counts[name] += [overlap(before == number, after == number) for number in ids]
    dice: dict[str, dict[str, float]] = {}
    for name, found in counts.items():
        dice[name] = {
            label.name: round(dice_of(int(both), int(total)), 6)
            for label, (both, total) in zip(manifest.labels, found, strict=True)
            if total
        }
        worst = min(dice[name].values(), default=None)
        if worst is not None:
            short = "" if worst >= LEAST_DICE else f", below {LEAST_DICE:g}"
            say(f"the mask with {name}: Dice {worst:.4f} of the worst structure{short}")
    return {
        "limit": LEAST_DICE,
        "slices": sum(len(stack.array) for stack in stacks),
        "dice": dice,
        "below": [name for name, found in dice.items() if min(found.values(), default=1.0) < LEAST_DICE],
    }


def require_invariant(record: Mapping[str, Any]) -> None:
    """The gate: refuse a model of which a change moves the mask.

    Raises:
        VerificationError: A Dice is below the limit, or no mask showed anything.
    """
    below, dice = record["below"], record["dice"]
    if below or not any(dice.values()):
        told = "; ".join(f"{name} {min(dice[name].values()):.4f}" for name in below) or "the masks are empty"
        raise VerificationError(
            f"the mask is not that of the unchanged scan: {told}",
            f"Dice of at least {record['limit']:g} for every structure",
            "train with narrower and wider fields, margins and contrasts ([augment]), or export without --invariant",
        )
