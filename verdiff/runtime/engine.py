"""One scan through the networks: the prior once a slice, then the loop, in chunks of slices.

The answer never depends on how the work was split: noise belongs to (slice, sample, step), fusion is slice by slice,
and every network call has the backend's own batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BudgetError
from verdiff.imaging import normalise
from verdiff.runtime.answer import Answer, chunks_of, restore_slice
from verdiff.runtime.clock import Cancelled, Clock

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.memory import MemoryPlan
    from verdiff.runtime.runner import Conditions, Runner, Sampled
    from verdiff.runtime.sampling import Sampling

# Restoring is measured on one slice; a page fault or a busy core later must not carry the result past its deadline.
RESTORE_MARGIN = 1.3
FEW_SLICES = 3


@dataclass
class Engine:
    """The work of one call; :meth:`passes` does it and says after each pass how far the answer has come.

    Attributes:
        runner: The networks and the loop, on the host or on a device.
        plan: The slices and their grid.
        planes: The scan's slices in their own pixels, [slices, rows, cols].
        bounds: Intensities that become -1 and 1.
        sampling: Table, samples, seed and fusion.
        memory: Chunk size, and what may be kept between passes.
        clock: Stage times, deadline, cancel.
        ids: Label id of each class index, uint8 [K + 1].
        progress: Called with the share of network calls done, or None.
        answer: What is known so far.
    """

    runner: Runner
    plan: SlicePlan
    planes: NDArray[np.generic]
    bounds: tuple[float, float]
    sampling: Sampling
    memory: MemoryPlan
    clock: Clock
    ids: NDArray[np.uint8]
    progress: Callable[[float], None] | None = None
    answer: Answer = field(init=False)
    _conditions: dict[int, Conditions] = field(init=False, default_factory=dict)
    _samples: dict[int, list[Sampled]] = field(init=False, default_factory=dict)
    _restore_seconds: float = field(init=False, default=0.0)
    _call_seconds: float = field(init=False, default=0.0)
    _done: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        plan = self.plan
        self.answer = Answer.empty(plan.slices, len(self.ids) - 1, plan.padded_rows, plan.padded_cols)

    @property
    def chunks(self) -> Iterator[slice]:
        """The slices in the order they are worked on."""
        return chunks_of(self.plan.slices, self.memory.chunk)

    def passes(self, *, anytime: bool) -> Iterator[str]:
        """Do the work; yields ``"prior"`` or ``"sampling"`` after a pass with more to come, and at last the outcome.

        ``anytime`` answers every slice from the prior first and then adds samples in rounds. Without it each chunk is
        finished before the next, which holds the features of one chunk only. The final numbers are the same.

        Raises:
            BudgetError: The deadline comes before the prior has answered every slice.
            Cancelled: ``cancel`` said yes before then.
        """
        table, samples = self.sampling.table, self.sampling.samples
        if table is None or anytime:
            self._prior_pass()
            if table is None:
                yield "complete"
                return
            yield "prior"
            rounds = list(_rounds(samples)) if self.memory.keep_samples else [range(samples)]
            for number, members in enumerate(rounds, 1):
                for chunk in self.chunks:
                    stopped = self._refine(chunk, members)
                    if stopped is not None:
                        yield stopped
                        return
                yield "complete" if number == len(rounds) else "sampling"
            return
        for chunk in self.chunks:
            self._conditions[chunk.start] = self._prior(chunk)
            self._refine(chunk, range(samples))
            del self._conditions[chunk.start]
        yield "complete"

    def _prior(self, chunk: slice) -> Conditions:
        with self.clock.stage("normalise"):
            planes = normalise(self.planes[chunk], *self.bounds)
        with self.clock.stage("resample"):
            # One at a time: a matrix product over more planes may round differently.
            image = np.concatenate([self.plan.to_model(plane[None]) for plane in planes])
        with self.clock.stage("prior"):
            conditions = self.runner.prior(image, chunk)
        self._report(len(image))
        return conditions

    def _prior_pass(self) -> None:
        seconds: list[float] = []
        for chunk in self.chunks:
            begun = self.clock.elapsed
            conditions = self._prior(chunk)
            with self.clock.stage("fuse"):
                self.answer.put(chunk, self.runner.fuse_prior(conditions), steps=0, samples=0)
            if self.sampling.table is not None and self.memory.keep_features:
                self._conditions[chunk.start] = conditions
            seconds.append((self.clock.elapsed - begun) / (chunk.stop - chunk.start))
            if self.clock.bounded:
                self._check_least(chunk, seconds)
        self._call_seconds = min(seconds)

    def _check_least(self, chunk: slice, seconds: list[float]) -> None:
        """Stop as soon as even the quickest slice so far, repeated, would not answer every slice in time.

        Not before a few slices are done: the first one pays for what a new shape costs once.
        """
        if chunk.start == 0:
            self._restore_seconds = RESTORE_MARGIN * self.plan.slices * self._time_restore()
        to_come = self.plan.slices - chunk.stop
        judged = to_come if len(seconds) >= FEW_SLICES else 0
        why = self.clock.why_stop(reserve=judged * min(seconds) + self._restore_seconds)
        if why == "budget":
            least = self.clock.elapsed + to_come * float(np.median(seconds)) + self._restore_seconds
            raise BudgetError(
                f"a budget below one prior pass: {chunk.stop} of {self.plan.slices} slices have an answer after "
                f"{1000 * self.clock.elapsed:.0f} ms",
                f"about {math.ceil(1000 * least)} ms on this machine, the least that answers every slice",
                "raise the budget, give fewer slices, or use a faster backend or device",
            )
        if why == "cancelled" and to_come:
            raise Cancelled(
                f"cancelled with {chunk.stop} of {self.plan.slices} slices answered",
                "time for one prior pass, from which on a cancelled call gives a mask",
                "call again, and cancel later",
            )

    def _time_restore(self) -> float:
        """Seconds a slice, the quicker of two tries: the first one makes the resampling matrices."""
        tries: list[float] = []
        for _ in range(2):
            begun = self.clock.elapsed
            restore_slice(self.answer, self.plan, self.ids, 0)
            tries.append(self.clock.elapsed - begun)
        return min(tries)

    def _refine(self, chunk: slice, members: range) -> str | None:
        """Add the samples ``members`` to the slices ``chunk``; the reason when stopped, with what there is kept."""
        pairs = len(members) * (chunk.stop - chunk.start)
        first_step = self._restore_seconds + self._call_seconds * pairs
        stopped = self.clock.why_stop(first_step) if self.clock.bounded else None
        if stopped is not None:
            return stopped
        conditions = self._conditions.get(chunk.start)
        if conditions is None:
            conditions = self._prior(chunk)
        calls, begun = 0, self.clock.elapsed

        def report(images: int) -> None:
            nonlocal calls
            calls += images
            self._report(images)

        def stop(images: int) -> bool:
            nonlocal stopped
            if calls:
                self._call_seconds = (self.clock.elapsed - begun) / calls
            stopped = self.clock.why_stop(self._restore_seconds + self._call_seconds * images)
            return stopped is not None

        with self.clock.stage("loop"):
            ask = stop if self.clock.bounded else None
            sampled = self.runner.sample(conditions, chunk, members, report, ask)
        with self.clock.stage("fuse"):
            self._fuse(chunk, members, sampled)
        return stopped

    def _fuse(self, chunk: slice, members: range, sampled: Sampled) -> None:
        """``sampled`` joins the earlier rounds of ``chunk`` unless it was stopped halfway."""
        assert self.sampling.table is not None
        whole = sampled.steps == len(self.sampling.table)
        earlier = self._samples.get(chunk.start, [])
        if earlier and not whole:
            return
        parts = [*earlier, sampled]
        if self.memory.keep_samples and members.stop < self.sampling.samples:
            self._samples[chunk.start] = parts
        else:
            self._samples.pop(chunk.start, None)
        samples = sum(part.members for part in parts)
        self.answer.put(chunk, self.runner.fuse(parts), steps=sampled.steps, samples=samples)

    def _report(self, calls: int) -> None:
        self._done += calls
        if self.progress is not None:
            steps = 0 if self.sampling.table is None else len(self.sampling.table)
            total = self.plan.slices * (1 + steps * self.sampling.samples)
            self.progress(min(1.0, self._done / total))


def _rounds(samples: int) -> Iterator[range]:
    """The samples 0 .. n - 1 in rounds that double what there is: 1, 2, 4, ... in all."""
    done = 0
    while done < samples:
        more = min(max(1, done), samples - done)
        yield range(done, done + more)
        done += more
