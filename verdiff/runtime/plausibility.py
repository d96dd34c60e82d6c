"""Whether a scan and its mask look like those the model was trained on: named warnings beside the mask.

What makes a mask meaningless is refused (:mod:`verdiff.runtime.suitability`). This is what only makes it doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verdiff.imaging.look import look_of_mask, look_of_scan

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.imaging.volume import Array

# How far beyond the most that training saw a number may lie. Scans differ more in size than spines do.
WIDER, LARGER_AREA, LARGER_VOLUME = 2.0, 1.5, 4.0
DARKER, LESS_TOGETHER = 0.15, 0.2
# Statistics are kept with four decimals.
_ROUNDED = 0.999


@dataclass(frozen=True)
class Warned:
    """One thing that looks unlike the training data.

    Attributes:
        name: What kind of thing, always the same word: ``"wider-scan"``, ``"larger-field"``, ``"dark-scan"``,
            ``"large-structure"``, ``"structure-in-the-dark"`` or ``"scattered-structures"``.
        text: What was found, and what training saw.
        of_mask: Whether it is about the mask, which then is not to be relied on, or about the scan alone.
    """

    name: str
    text: str
    of_mask: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "text": self.text, "of_mask": self.of_mask}


def warnings_of_scan(
    manifest: Manifest, plan: SlicePlan, array: Array, bounds: tuple[float, float]
) -> tuple[Warned, ...]:
    """What of a scan is unlike the training data; nothing where the bundle does not say what that looked like."""
    seen, found = manifest.suitability, look_of_scan(plan, array, bounds)
    warned = []
    most = _widest(seen)
    if most is not None and found.get("width_mm", 0.0) > WIDER * most:
        warned.append(
            Warned(
                "wider-scan", f"the scan is {found['width_mm']:.0f} mm wide, training saw up to {most:.0f} mm", False
            )
        )
    for key, what in (("rows_mm", "high"), ("columns_mm", "deep")):
        most = _most(seen, key)
        if most is not None and found[key] > WIDER * most:
            text = f"the scan is {found[key]:.0f} mm {what}, training saw up to {most:.0f} mm"
            warned.append(Warned("larger-field", text, False))
    most = _most(seen, "dark_share")
    if most is not None and found["dark_share"] > most + (1 - most) / 2:
        text = f"{found['dark_share']:.0%} of the scan has no signal, training saw up to {most:.0%}"
        warned.append(Warned("dark-scan", text, False))
    return tuple(warned)


def warnings_of_mask(
    manifest: Manifest, plan: SlicePlan, labels: Array, array: Array, bounds: tuple[float, float]
) -> tuple[Warned, ...]:
    """What of a mask is unlike the training masks: too large, where there is no signal, or scattered."""
    seen = manifest.suitability
    if not looks_at_masks(manifest):
        return ()
    found = look_of_mask(plan, labels, manifest.label_ids, array, bounds)
    warned = []
    for name in manifest.label_ids:
        for key, unit, factor in (("area_mm2", "mm2 in a slice", LARGER_AREA), ("volume_ml", "ml", LARGER_VOLUME)):
            most, here = _most(seen, f"{key}.{name}"), found.get(f"{key}.{name}")
            if most is not None and here is not None and here > factor * most:
                text = f"{name} has {here:.0f} {unit}, training saw up to {most:.0f}"
                warned.append(Warned("large-structure", text, True))
        most, here = _most(seen, f"dark_share.{name}"), found.get(f"dark_share.{name}")
        if most is not None and here is not None and here > most + DARKER:
            text = f"{here:.0%} of {name} lies where there is no signal, training saw up to {most:.0%}"
            warned.append(Warned("structure-in-the-dark", text, True))
    least, here = _least(seen, "largest_part"), found.get("largest_part")
    if least is not None and here is not None and here < least - LESS_TOGETHER:
        text = f"{1 - here:.0%} of the structures hang together with nothing, training saw up to {1 - least:.0%}"
        warned.append(Warned("scattered-structures", text, True))
    return tuple(warned)


def looks_at_masks(manifest: Manifest) -> bool:
    """Whether the bundle says what the training masks looked like."""
    return any("." in key for key in manifest.suitability)


def _widest(seen: Mapping[str, Any]) -> float | None:
    """The width in mm beyond which training saw nothing; None where it saw single slices, from anywhere in a body.

    Bundles from before ``slices`` was counted tell by their areas: a structure of a volume V in a scan of a width W has
    a slice of at least V / W, so an area below the least V over the most W is of a scan that has neither.
    """
    most = _most(seen, "width_mm")
    fewest = _least(seen, "slices")
    if most is None or fewest == 1:
        return None
    if fewest is None:
        for key in seen:
            kind, _, name = key.partition(".")
            area, volume = _least(seen, f"area_mm2.{name}"), _least(seen, key)
            if (
                kind == "volume_ml"
                and area is not None
                and volume is not None
                and area < _ROUNDED * 1000 * volume / most
            ):
                return None
    return most


def _most(seen: Mapping[str, Any], key: str) -> float | None:
    return float(seen[key][1]) if key in seen else None


def _least(seen: Mapping[str, Any], key: str) -> float | None:
    return float(seen[key][0]) if key in seen else None
