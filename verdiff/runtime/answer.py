"""What is known about one scan so far, on the model's grid, and its way back to the scan's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import Fused, background_and_labels

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan

Mapper = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """Fused probabilities and what they rest on, slice by slice.

    Attributes:
        probabilities: float16 [slices, K, H, W] in [0, 1].
        uncertainty: float16 [slices, H, W]: entropy of the normalised K + 1 classes, in [0, 1].
        spread: float16 [slices, H, W]: standard deviation between the samples.
        steps: int32 [slices]: denoiser steps behind the answer; 0 is the prior's.
        samples: int32 [slices]: samples behind the answer; 0 is the prior's.
    """

    probabilities: Half
    uncertainty: Half
    spread: Half
    steps: NDArray[np.int32]
    samples: NDArray[np.int32]

    @classmethod
    def empty(cls, slices: int, classes: int, rows: int, cols: int) -> Answer:
        """An answer for ``slices`` slices of the model's grid, nothing known yet."""
        return cls(
            np.zeros((slices, classes, rows, cols), np.float16),
            np.zeros((slices, rows, cols), np.float16),
            np.zeros((slices, rows, cols), np.float16),
            np.zeros(slices, np.int32),
            np.zeros(slices, np.int32),
        )

    def put(
        self, chunk: slice, fused: Fused, *, steps: int, samples: int, only: NDArray[np.bool_] | None = None
    ) -> None:
        """Replace the answer of the slices ``chunk``, or of those among them that ``only`` [n] marks."""
        if only is not None and not only.all():
            for at in np.flatnonzero(only).tolist():
                one = Fused(*(getattr(fused, each.name)[at : at + 1] for each in fields(Fused)))
                self.put(slice(chunk.start + at, chunk.start + at + 1), one, steps=steps, samples=samples)
            return
        self.probabilities[chunk] = fused.probabilities
        self.uncertainty[chunk] = fused.uncertainty
        self.spread[chunk] = fused.spread
        self.steps[chunk], self.samples[chunk] = steps, samples

    def copy(self) -> Answer:
        """An independent copy, for a result that must not change while the sampling goes on."""
        return Answer(*(getattr(self, name).copy() for name in self.__dataclass_fields__))


def chunks_of(slices: int, size: int) -> Iterator[slice]:
    """``slices`` slices in runs of ``size``, the last one shorter."""
    for start in range(0, slices, size):
        yield slice(start, min(start + size, slices))


def restore_slice(answer: Answer, plan: SlicePlan, ids: Bytes, index: int) -> tuple[Bytes, Bytes]:
    """Labels and uncertainty of one slice in the scan's pixels, both uint8 [rows, cols].

    Probabilities are resampled, not labels: a label map resampled by nearest neighbour has the model's staircase. One
    slice at a time, because a matrix product over more planes may round differently.

    Args:
        answer: What is known.
        plan: The way between the grids.
        ids: Label id of each class index, 0 first: uint8 [K + 1].
        index: Which slice.
    """
    half = np.concatenate([answer.probabilities[index], answer.uncertainty[index, None]])
    maps = plan.from_model(half.astype(np.float32)[None])[0]
    labels = ids[background_and_labels(maps[:-1])]
    uncertainty = np.clip(maps[-1], 0, 1)
    uncertainty *= 255
    return labels, np.rint(uncertainty, out=uncertainty).astype(np.uint8)


def restore(answer: Answer, plan: SlicePlan, ids: Bytes, over: Mapper = map) -> tuple[Bytes, Bytes]:
    """Labels and uncertainty of the whole scan, both uint8 [z, y, x]; a slice at a time bounds the memory.

    Args:
        answer: What is known.
        plan: The way between the grids.
        ids: Label id of each class index, 0 first: uint8 [K + 1].
        over: Maps the work over the slices, for example over several workers.
    """
    planes = (plan.slices, plan.scan_rows, plan.scan_cols)
    labels, uncertainty = np.empty(planes, np.uint8), np.empty(planes, np.uint8)

    def one(index: int) -> None:
        labels[index], uncertainty[index] = restore_slice(answer, plan, ids, index)

    for _ in over(one, range(plan.slices)):
        pass
    return plan.insert(labels), plan.insert(uncertainty)
