"""The policy ``locate``: where in the field of view the spine is, from the prior's look at a few whole slices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BudgetError
from verdiff.imaging import normalise
from verdiff.runtime.clock import Cancelled

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.scan import Scan

Mask = NDArray[np.bool_]

# One slice in so many is looked at whole, two at least: more cost what the window saves, and a slice whose structures
# reach the border is noticed anyway.
EVERY = 12
LEAST = 2
# What the networks see around the structures. Less changes the mask, more costs time (docs/results).
MARGIN_MM = 15.0
# A structure this near to the window's border may go on outside.
BORDER_MM = 2.0
# A window's sides are multiples of this many pixels, so that scans of one protocol share a few sizes: OpenVINO compiles
# its networks for each.
SIDE = 32
# A window that saves less than this is not worth the look.
WORTH = 0.9


def slices_to_look_at(slices: int) -> list[int]:
    """Evenly spaced indices, none at the ends of the stack: 2, or one in ``EVERY``; empty for fewer than 5 slices."""
    if slices < 2 * LEAST + 1:
        return []
    count = max(LEAST, math.ceil(slices / EVERY))
    return [slices * (2 * i + 1) // (2 * count) for i in range(count)]


def locate(runner: Runner, scan: Scan, clock: Clock, chunk: int) -> tuple[SlicePlan, float]:
    """The plan to work with, and the seconds a slice that the prior took.

    Args:
        runner: Begun with the scan's plan.
        scan: The scan.
        clock: Gets the time, as ``locate``.
        chunk: Slices a call.

    Returns:
        The scan's plan with a window, or as it is where nothing was found, little would be saved, or there are too
        few slices; and the quickest seconds a slice, 0 when no slice was looked at.

    Raises:
        BudgetError: The deadline comes before the look is over.
        Cancelled: ``cancel`` said yes before then.
    """
    plan = scan.plan
    chosen = slices_to_look_at(plan.slices)
    if not chosen:
        return plan, 0.0
    found = np.zeros((plan.padded_rows, plan.padded_cols), bool)
    seconds: list[float] = []
    with clock.stage("locate"):
        for start in range(0, len(chosen), chunk):
            _check(clock, start, len(chosen), plan.slices, seconds)
            begun = clock.elapsed
            part = chosen[start : start + chunk]
            image = np.concatenate([plan.to_model(normalise(scan.planes[i][None], *scan.bounds)) for i in part])
            found |= runner.structures(runner.prior(image, slice(start, start + len(part)))).any(axis=0)
            seconds.append((clock.elapsed - begun) / len(part))
    return window_around(plan, found, scan.multiple), min(seconds)


def _check(clock: Clock, done: int, chosen: int, slices: int, seconds: list[float]) -> None:
    """Stop a look that even the quickest slice so far, repeated, would not end in time; the first pays for its shape.

    Args:
        clock: Clock with the deadline and the cancel.
        done: Slices that were looked at.
        chosen: Slices to look at.
        slices: Slices of the scan.
        seconds: What a slice took, chunk by chunk.
    """
    quickest = min(seconds) if len(seconds) > 1 else 0.0
    why = clock.why_stop(reserve=(chosen - done) * quickest)
    if why == "budget":
        # What the window will save is not known, so this is for whole slices.
        enough = clock.elapsed + (chosen - done + slices) * float(np.median(seconds or [0.0]))
        raise BudgetError(
            f"a budget below the look for the spine: {done} of {chosen} slices were looked at after "
            f"{1000 * clock.elapsed:.0f} ms",
            f"about {math.ceil(1000 * enough)} ms on this machine" if seconds else "time for one prior pass",
            "raise the budget, give fewer slices, or use a faster backend or device",
        )
    if why == "cancelled":
        raise Cancelled(
            f"cancelled with none of {slices} slices answered, {done} of {chosen} looked at",
            "time for one prior pass, from which on a cancelled call gives a mask",
            "call again, and cancel later",
        )


def window_around(plan: SlicePlan, found: Mask, multiple: int) -> SlicePlan:
    """``plan`` with the window around ``found`` [padded_rows, padded_cols], or itself where that is empty or large."""
    rows = _span(np.asarray(np.any(found, axis=1)), MARGIN_MM / plan.spacing_mm[0], multiple)
    cols = _span(np.asarray(np.any(found, axis=0)), MARGIN_MM / plan.spacing_mm[1], multiple)
    if rows is None or cols is None:
        return plan
    share = (rows.stop - rows.start) * (cols.stop - cols.start) / found.size
    return plan.windowed(rows, cols) if share <= WORTH else plan


def reaches_border(plan: SlicePlan, whole: SlicePlan, structures: Mask) -> bool:
    """Whether a structure comes near a border of the window that is not one of the slice.

    Args:
        plan: Plan with the window.
        whole: Plan without the window.
        structures: [n, padded_rows, padded_cols] of ``plan``.
    """
    down, across = (math.ceil(BORDER_MM / pitch) for pitch in plan.spacing_mm)
    bottom, right = plan.top + plan.padded_rows, plan.left + plan.padded_cols
    return bool(
        (plan.top > 0 and structures[:, :down].any())
        or (bottom < whole.padded_rows and structures[:, -down:].any())
        or (plan.left > 0 and structures[:, :, :across].any())
        or (right < whole.padded_cols and structures[:, :, -across:].any())
    )


def _span(line: Mask, margin: float, multiple: int) -> slice | None:
    """The span from the first to the last True, widened by ``margin``, from a multiple on, multiples of ``SIDE`` long.

    None without any True.
    """
    at = np.flatnonzero(line)
    if not at.size:
        return None
    first = max(0, math.floor((int(at[0]) - margin) / multiple)) * multiple
    side = math.lcm(multiple, SIDE)
    length = min(line.size, math.ceil((int(at[-1]) + 1 + margin - first) / side) * side)
    return slice(min(first, line.size - length), min(first, line.size - length) + length)
