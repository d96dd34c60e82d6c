"""No-go surfaces of a result: around each structure one that holds the true one with a stated probability, one within.

The distances come from the bundle's manifest (:mod:`verdiff.bundle.margins`), the surfaces from the probability maps.
Needs the extra ``[anatomy]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from verdiff.anatomy.margins import distance_field, moved_surface
from verdiff.bundle.margins import OUTER, SIDES, Margin, margin_of
from verdiff.errors import InputError

if TYPE_CHECKING:
    from verdiff.anatomy import Surface
    from verdiff.runtime.result import Segmentation

# Of how a mask was made, what margins depend on.
_SETTING = ("steps", "samples", "sampler", "fusion", "policy")


@dataclass(frozen=True)
class NoGo:
    """The moved surfaces of a scan.

    Attributes:
        surfaces: Side (``"outer"``, ``"inner"``) -> structure -> surface, of those that there are.
        margins: All margins that were asked for.
        missing: (structure, side) -> why there is no surface, in words.
        broken: What the promise does not hold for, in words: this scan, or how its mask was made. Empty if it holds.
    """

    surfaces: dict[str, dict[str, Surface]] = field(default_factory=lambda: {side: {} for side in SIDES})
    margins: tuple[Margin, ...] = ()
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the report."""
        rows = [
            {**margin.to_dict(), "missing": self.missing.get((margin.structure, margin.side))}
            for margin in self.margins
        ]
        return {"promised": not self.broken, "not_promised_because": list(self.broken), "surfaces": rows}

    def lines(self) -> list[str]:
        """For people: what each surface promises or why there is none, and what the promise does not hold for."""
        found = []
        for margin in self.margins:
            name = f"{margin.structure}-{margin.side}"
            if (why := self.missing.get((margin.structure, margin.side))) is not None:
                found.append(f"  {name:<16} none: {why}")
                continue
            outer = margin.side == OUTER
            found.append(
                f"  {name:<16} {margin.mm:.2f} mm {'outwards' if outer else 'inwards'}: "
                + (
                    f"holds {margin.share:.0%} of the true surface"
                    if outer
                    else f"at most {1 - margin.share:.0%} is wrong"
                )
                + f" with probability {margin.probability:.3f} ({margin.patients} patients)"
            )
        return found + [f"no promise of these surfaces: {reason}" for reason in self.broken]


def margins_of(
    record: Mapping[str, Any], *, probability: float | None = None, share: float | None = None
) -> tuple[Margin, ...]:
    """Every margin of a manifest's ``margins``; none of a model that is not calibrated and of which nothing is asked.

    Args:
        record: The manifest's.
        probability: What is to be promised; None is the record's own, or what its patients can promise.
        share: Share of the true surface; None is :data:`verdiff.bundle.margins.SHARE`.

    Raises:
        InputError: A share that was not calibrated, a probability that the patients cannot promise, or either of a
            model that is not calibrated.
    """
    if not record and (probability is not None or share is not None):
        raise InputError(
            "a promise of a model that is not calibrated",
            "a bundle with margins",
            "make one with 'verdiff calibrate', or leave the probability and the share out",
        )
    return tuple(
        margin_of(record, name, side, probability=probability, share=share)
        for name in record.get("structures", {})
        for side in SIDES
    )


def no_go_surfaces(result: Segmentation, record: Mapping[str, Any], margins: tuple[Margin, ...]) -> NoGo:
    """Move the surfaces of a result's probability maps by their margins.

    Args:
        result: Result for a scan with depth.
        record: The manifest's ``margins``.
        margins: Margins that :func:`margins_of` gives.

    Raises:
        InputError: A film, which has no depth.
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    found = NoGo(margins=margins, broken=tuple(_broken(result, record)))
    for name in dict.fromkeys(margin.structure for margin in margins):
        level = float(record["level"])
        distances = distance_field(result.probabilities(name), result.geometry, level=level)
        for margin in (each for each in margins if each.structure == name):
            if distances is None:
                why = f"{name} was not found"
            elif math.isinf(margin.mm):
                why = f"{name} was missed in too many calibration patients"
            else:
                offset = margin.mm if margin.side == OUTER else -margin.mm
                surface = moved_surface(distances, offset)
                if surface is not None:
                    found.surfaces[margin.side][name] = surface
                    continue
                why = f"nothing of {name} is deeper than {margin.mm:.2f} mm"
            found.missing[name, margin.side] = why
    return found


def setting_of(result: Segmentation) -> dict[str, Any]:
    """What of the making of a mask its margins depend on, as plain JSON values."""
    sampling, reached = result.provenance["sampling"], result.provenance["reached"]
    made = {key: sampling.get(key) for key in _SETTING}
    made = made if max(reached["samples"]) else {"steps": 0, "samples": 0, "policy": made["policy"]}
    # Not there where nothing was smoothed, as in margins from before there was smoothing.
    smoothed = result.provenance.get("smooth_mm")
    return made if smoothed is None else {**made, "smooth_mm": smoothed}


def _broken(result: Segmentation, record: Mapping[str, Any]) -> list[str]:
    reasons = [f"forced past: {reason}" for reason in result.provenance["forced"]]
    reasons += [f"unlike the training data: {text}" for text in result.implausible]
    if result.outcome in ("budget", "cancelled"):
        reasons.append(f"stopped by {result.outcome} before all slices were done")
    computed = result.provenance["computed"]
    # The only thing that a budget takes from a mask which is complete all the same.
    if computed.get("overlap_reduced"):
        reasons.append(f"windows overlapped by {computed['overlap']:g}, less than the model's own, to meet the budget")
    made = setting_of(result)
    if record.get("setting") and made != record["setting"]:
        setting = {"smooth_mm": 0.0, **record["setting"]}
        calibrated = {key: value for key, value in setting.items() if {"smooth_mm": 0.0, **made}.get(key) != value}
        said = ", ".join(f"{key} {value}" for key, value in calibrated.items())
        reasons.append(f"made with another setting than the margins, which were calibrated with {said}")
    return reasons
