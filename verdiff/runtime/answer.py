"""What is known about one scan so far, on the model's grid, and its way back to the scan's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import Fused, background_and_labels, entropy_uncertainty
from verdiff.runtime.half import HalfStack

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan

Plane = NDArray[Any]
Mapper = Callable[[Callable[[int], Plane], Iterable[int]], Iterable[Plane]]
Bytes = NDArray[np.uint8]

# Slices are put into the scan's array this much at a time: where they lie across its lines, each line that is fetched
# then takes many of them.
_BLOCK_BYTES = 8 << 20
# A Gaussian across slices ends at so many standard deviations.
FARTHEST = 2.0


@dataclass(frozen=True)
class Answer:
    """Fused probabilities and what they rest on, slice by slice. The uncertainty follows from the probabilities.

    Attributes:
        probabilities: [K, H, W] of each slice, in [0, 1].
        spread: [H, W] of each slice: standard deviation between the samples; None where there is but one of each
            slice.
        steps: int32 [slices]: denoiser steps behind the answer; 0 is the prior's.
        samples: int32 [slices]: samples behind the answer; 0 is the prior's.
    """

    probabilities: HalfStack
    spread: HalfStack | None
    steps: NDArray[np.int32]
    samples: NDArray[np.int32]

    @classmethod
    def empty(cls, slices: int, classes: int, rows: int, cols: int, *, samples: int = 1) -> Answer:
        """An answer for ``slices`` slices of the model's grid, nothing known yet; of at most ``samples`` samples."""
        return cls(
            HalfStack(slices, (classes, rows, cols)),
            HalfStack(slices, (rows, cols)) if samples > 1 else None,
            np.zeros(slices, np.int32),
            np.zeros(slices, np.int32),
        )

    @property
    def kept_bytes(self) -> int:
        """What it takes once every slice is answered."""
        return self.probabilities.kept_bytes + (0 if self.spread is None else self.spread.kept_bytes)

    def put(
        self, chunk: slice, fused: Fused, *, steps: int, samples: int, only: NDArray[np.bool_] | None = None
    ) -> None:
        """Replace the answer of the slices ``chunk``, or of those among them that ``only`` [n] marks."""
        for at, index in enumerate(range(chunk.start, chunk.stop)):
            if only is not None and not only[at]:
                continue
            self.probabilities.put(index, fused.probabilities[at])
            if self.spread is not None:
                self.spread.put(index, fused.spread[at])
            self.steps[index], self.samples[index] = steps, samples

    def smoothed(self, spacing_mm: float, sigma_mm: float) -> Answer:
        """The answer with each slice's probabilities averaged with those of its neighbours, by a Gaussian.

        A network that sees slices alone is wrong in one and right in the next; their mean is more often right than
        either. How many neighbours count follows from their distance. The outermost slices average over what there is.

        Args:
            spacing_mm: Distance of the scan's slices.
            sigma_mm: Standard deviation of the Gaussian in millimetres; 0 leaves each slice alone.
        """
        kept = self.probabilities
        within = _weights(kept.across.shape[0] if isinstance(kept, ScanSlices) else kept.slices, spacing_mm, sigma_mm)
        if within is None:
            return self
        across = within @ kept.across if isinstance(kept, ScanSlices) else within
        averaged = ScanSlices(kept.slices, kept.shape, across.astype(np.float32))
        averaged.share(kept)
        return replace(self, probabilities=averaged)

    def copy(self) -> Answer:
        """An independent copy, for a result that must not change while the sampling goes on."""
        spread = None if self.spread is None else self.spread.copy()
        return Answer(self.probabilities.copy(), spread, self.steps.copy(), self.samples.copy())


@dataclass(frozen=True)
class ScanSlices(HalfStack):
    """Maps kept by the model's slices and given by the scan's, interpolated between those around each.

    Args:
        across: Weights [scan's slices, model's slices].
    """

    across: NDArray[np.float32]

    def get(self, index: int) -> NDArray[np.float32]:
        """The maps of a slice of the scan, float32 of :attr:`shape`."""
        total: NDArray[np.float32] | None = None
        for model in np.flatnonzero(self.across[index]):
            term = self.across[index, model] * HalfStack.get(self, int(model))
            total = term if total is None else total + term
        assert total is not None
        return total

    def copy(self) -> ScanSlices:
        """See :meth:`HalfStack.copy`."""
        copy = ScanSlices(self.slices, self.shape, self.across)
        copy.share(self)
        return copy


def _weights(slices: int, spacing_mm: float, sigma_mm: float) -> NDArray[np.float64] | None:
    """Weights [slices, slices] of a Gaussian across slices, each row's sum 1; None where each slice is left alone."""
    if not sigma_mm or slices < 2:
        return None
    distance = spacing_mm * np.abs(np.subtract.outer(np.arange(slices), np.arange(slices)))
    weights = np.where(distance <= FARTHEST * sigma_mm, np.exp(-((distance / sigma_mm) ** 2) / 2), 0.0)
    averaging: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return averaging


def chunks_of(slices: int, size: int) -> Iterator[slice]:
    """``slices`` slices in runs of ``size``, the last one shorter."""
    for start in range(0, slices, size):
        yield slice(start, min(start + size, slices))


def rounds_of(samples: int) -> Iterator[range]:
    """The samples 0 .. n - 1 in rounds that double what there is: 1, 2, 4, ... in all."""
    done = 0
    while done < samples:
        more = min(max(1, done), samples - done)
        yield range(done, done + more)
        done += more


def restore_slice(answer: Answer, plan: SlicePlan, ids: Bytes, index: int) -> Bytes:
    """Labels of one slice in the scan's pixels, uint8 [rows, cols].

    Probabilities are resampled, not labels: a label map resampled by nearest neighbour has the model's staircase. One
    slice at a time, because a matrix product over more planes may round differently.

    Args:
        answer: What is known.
        plan: The way between the grids.
        ids: Label id of each class index, 0 first: uint8 [K + 1].
        index: Which slice.
    """
    labels = background_and_labels(plan.from_model(answer.probabilities.get(index)[None])[0])
    return labels if np.array_equal(ids, np.arange(ids.size)) else ids[labels]


def restore(answer: Answer, plan: SlicePlan, ids: Bytes, over: Mapper = map) -> Bytes:
    """Labels of the whole scan, uint8 [z, y, x].

    Args:
        answer: What is known.
        plan: The way between the grids.
        ids: Label id of each class index, 0 first: uint8 [K + 1].
        over: Maps the work over the slices, for example over several workers.
    """
    return in_scan(plan, np.dtype(np.uint8), lambda index: restore_slice(answer, plan, ids, index), over)


def restore_uncertainty(answer: Answer, plan: SlicePlan) -> Bytes:
    """Entropy of the classes in the whole scan, 0 sure to 255 all alike: uint8 [z, y, x]."""

    def one(index: int) -> Bytes:
        entropy = entropy_uncertainty(answer.probabilities.get(index))
        plane: NDArray[np.float32] = plan.from_model(entropy[None, None])[0, 0]
        np.clip(plane, 0, 1, out=plane)
        plane *= 255
        np.rint(plane, out=plane)
        return plane.astype(np.uint8)

    return in_scan(plan, np.dtype(np.uint8), one)


def in_scan(plan: SlicePlan, dtype: np.dtype[Any], one: Callable[[int], Plane], over: Mapper = map) -> NDArray[Any]:
    """The scan's array [z, y, x] of the planes ``one(index)`` [rows, cols]; never held twice."""
    whole = np.zeros(plan.source_shape, dtype)
    planes = plan.extract(whole)
    size = max(1, _BLOCK_BYTES // (plan.scan_rows * plan.scan_cols * dtype.itemsize))
    for block in chunks_of(plan.slices, size):
        planes[block] = np.stack(list(over(one, range(block.start, block.stop))))
    return whole
