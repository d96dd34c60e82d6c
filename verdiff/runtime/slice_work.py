"""One scan through the networks: the prior once a slice, then the loop, in chunks of slices.

The answer never depends on how the work was split: noise belongs to (slice, sample, step), fusion is slice by slice,
and every network call has the backend's own batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BudgetError
from verdiff.imaging import normalise
from verdiff.runtime.answer import Answer, chunks_of, rounds_of
from verdiff.runtime.clock import Cancelled, Clock
from verdiff.runtime.locating import reaches_border
from verdiff.runtime.policy import masks_agree

if TYPE_CHECKING:
    from verdiff.diffusion import SamplerTable
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.lanes import Lanes
    from verdiff.runtime.preparing import CallPlan
    from verdiff.runtime.runner import Conditions, Maps, Runner, Sampled
    from verdiff.runtime.sampling import Sampling
    from verdiff.runtime.scan import Scan

FEW_SLICES = 3


class _Outgrown(Exception):
    """A structure reaches the border of the window: it may go on outside."""


@dataclass
class SliceWork:
    """The work of one call; :meth:`passes` does it and says after each pass how far the answer has come.

    Attributes:
        runner: The networks and the loop, on the host or on a device.
        lanes: Workers for what the host does slice by slice.
        scan: The slices in their own pixels.
        planned: Where to compute, how, and with what memory.
        clock: Stage times, deadline, cancel.
        anytime: Whether every slice is answered from the prior first and samples are then added in rounds. Without it
            each chunk is finished before the next, which holds the features of one chunk only.
        reserve_of: Seconds from an answer on a plan to the result, where a slice's maps are like those given.
        progress: Called with the share of network calls done, or None.
        answer: What is known so far.
        settled: Slices whose answer a policy has declared final before all samples were taken.
        outgrown: Whether a structure reached the window's border, so that whole slices were computed after all; or,
            with too little time left for that, may go on outside.
    """

    runner: Runner
    lanes: Lanes
    scan: Scan
    planned: CallPlan
    clock: Clock
    anytime: bool
    reserve_of: Callable[[Answer, SlicePlan, Maps], float]
    progress: Callable[[float], None] | None = None
    answer: Answer = field(init=False)
    settled: NDArray[np.bool_] = field(init=False)
    outgrown: bool = field(init=False, default=False)
    _conditions: dict[int, Conditions] = field(init=False, default_factory=dict)
    _samples: dict[int, list[Sampled]] = field(init=False, default_factory=dict)
    _reserve: float = field(init=False, default=0.0)
    _call_seconds: float = field(init=False, default=0.0)
    _done: int = field(init=False, default=0)
    _share: float = field(init=False, default=0.0)
    _share_before: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._begin(self.planned)

    def _begin(self, planned: CallPlan) -> None:
        plan = planned.plan
        self.planned = planned
        classes, samples = len(self.scan.ids) - 1, planned.sampling.samples
        self.answer = Answer.empty(plan.slices, classes, plan.padded_rows, plan.padded_cols, samples=samples)
        self.settled = np.zeros(plan.slices, bool)
        self._conditions, self._samples = {}, {}
        # What was told of a window that was outgrown is not taken back; the whole slices have the rest.
        self._share_before, self._done = self._share, 0

    @property
    def plan(self) -> SlicePlan:
        """The slices as they are computed: whole, or in a window."""
        return self.planned.plan

    @property
    def sampling(self) -> Sampling:
        """Table, samples, seed, fusion and policy."""
        return self.planned.sampling

    @property
    def chunks(self) -> Iterator[slice]:
        """The slices in the order they are worked on."""
        return chunks_of(self.plan.slices, self.planned.memory.chunk)

    @property
    def whole(self) -> SlicePlan:
        """The slices as they are in the scan."""
        return self.scan.plan

    def describe(self) -> dict[str, Any]:
        """What policies left out, and what a deadline expected.

        ``window`` is [top, left, rows, columns] in the model's pixels, or None for whole slices, and ``share`` its part
        of them; ``window_outgrown`` whether a structure reached its border; ``slices_settled`` counts the slices a
        policy ended early. ``sampling_would_take_ms`` is there when a deadline was too short for a better setting that
        samples, and left time for the prior alone.
        """
        plan, whole = self.plan, self.whole
        predicted, needed = self.planned.predicted, self.planned.sampling_needs
        window = [plan.top, plan.left, plan.padded_rows, plan.padded_cols]
        return {
            "window": None if plan is whole else window,
            "share": plan.padded_rows * plan.padded_cols / (whole.padded_rows * whole.padded_cols),
            "window_outgrown": self.outgrown,
            "slices_settled": int(np.count_nonzero(self.settled)),
            "predicted_ms": None if predicted is None else round(1000 * predicted, 1),
            **({} if needed is None else {"sampling_would_take_ms": round(1000 * needed, 1)}),
        }

    def passes(self) -> Iterator[str]:
        """Do the work; yields ``"prior"`` or ``"sampling"`` after a pass with more to come, and at last the outcome.

        The final numbers are the same with and without ``anytime``.

        Raises:
            BudgetError: The deadline comes before the prior has answered every slice.
            Cancelled: ``cancel`` said yes before then.
        """
        try:
            yield from self._passes()
        except _Outgrown:
            # Raised by the prior alone, so nothing was yielded that this takes back.
            memory = self.runner.begin(
                self.scan.plan, self.sampling, chunk=self.planned.memory.chunk, anytime=self.anytime
            )
            self._begin(replace(self.planned, plan=self.scan.plan, memory=memory))
            yield from self._passes()

    def _passes(self) -> Iterator[str]:
        table, samples = self.sampling.table, self.sampling.samples
        if table is None or self.anytime:
            self._prior_pass()
            if table is None:
                yield "complete"
                return
            yield "prior"
            if self._in_turn:
                yield self._refine_in_turn()
                return
            rounds = list(rounds_of(samples)) if self.planned.memory.keep_samples else [range(samples)]
            for number, members in enumerate(rounds, 1):
                for chunk in self.chunks:
                    stopped = self._refine(chunk, members)
                    if stopped is not None:
                        yield stopped
                        return
                yield "complete" if number == len(rounds) else "sampling"
            return
        for chunk in self.chunks:
            conditions = self._prior(chunk)
            self._report(chunk.stop - chunk.start)
            self._settle_empty(chunk, conditions)
            if self.settled[chunk].any():
                self._answer_prior(chunk, conditions)
            self._conditions[chunk.start] = conditions
            self._refine(chunk, range(samples))
            del self._conditions[chunk.start]
        yield "complete"

    @property
    def _in_turn(self) -> bool:
        """Whether a chunk has all its rounds before the next: agreement needs them, and only one chunk's are kept."""
        return self.sampling.policy.agree and not self.planned.memory.keep_samples

    def _refine_in_turn(self) -> str:
        for chunk in self.chunks:
            for members in rounds_of(self.sampling.samples):
                stopped = self._refine(chunk, members)
                if stopped is not None:
                    return stopped
            self._samples.pop(chunk.start, None)
            if not self.planned.memory.keep_features:
                self._conditions.pop(chunk.start, None)
        return "complete"

    def _prior(self, chunk: slice) -> Conditions:
        planes = self.scan.planes
        with self.clock.stage("normalise"):
            normal = self.lanes.map(lambda i: normalise(planes[i][None], *self.scan.bounds), _indices(chunk))
        with self.clock.stage("resample"):
            # One at a time: a matrix product over more planes may round differently.
            image = np.concatenate(self.lanes.map(self.plan.to_model, normal))
        with self.clock.stage("prior"):
            conditions = self.runner.prior(image, chunk)
        if self.plan is not self.scan.plan:
            self._check_window(chunk, conditions)
        return conditions

    def _check_window(self, chunk: slice, conditions: Conditions) -> None:
        if self.outgrown or not reaches_border(self.plan, self.scan.plan, self.runner.structures(conditions)):
            return
        self.outgrown = True
        whole, window = (plan.padded_rows * plan.padded_cols for plan in (self.scan.plan, self.plan))
        # The window's prior so far has shown what a slice takes, and whole slices begin again.
        per_slice = (self.clock.timings["resample"] + self.clock.timings["prior"]) / chunk.stop
        if self.clock.left > self.plan.slices * per_slice * whole / window + self._reserve:
            raise _Outgrown

    def _answer_prior(self, chunk: slice, conditions: Conditions) -> None:
        with self.clock.stage("fuse"):
            self.answer.put(chunk, self.runner.fuse_prior(conditions), steps=0, samples=0)

    def _settle_empty(self, chunk: slice, conditions: Conditions) -> None:
        """Settle slices without a structure, which need no sampling under the policy ``skip``."""
        if self.sampling.policy.skip:
            with self.clock.stage("fuse"):
                self.settled[chunk] = ~self.runner.structures(conditions).any(axis=(1, 2))

    def _prior_pass(self) -> None:
        seconds: list[float] = []
        for chunk in self.chunks:
            begun = self.clock.elapsed
            conditions = self._prior(chunk)
            self._report(chunk.stop - chunk.start)
            self._answer_prior(chunk, conditions)
            self._settle_empty(chunk, conditions)
            if self.sampling.table is not None and self.planned.memory.keep_features:
                self._conditions[chunk.start] = conditions
            seconds.append((self.clock.elapsed - begun) / (chunk.stop - chunk.start))
            if self.clock.bounded:
                self._check_least(chunk, seconds)
        # The first step is judged before any was seen: a denoiser may be far slower than its prior.
        step_s = self.planned.step_s_a_pixel * self.plan.padded_rows * self.plan.padded_cols
        self._call_seconds = max(min(seconds), step_s)

    def _check_least(self, chunk: slice, seconds: list[float]) -> None:
        """Stop as soon as even the quickest slice so far, repeated, would not answer every slice in time.

        Not before a few slices are done: the first one pays for what a new shape costs once.
        """
        if chunk.start == 0:
            self._reserve = self.reserve_of(self.answer, self.plan, self.answer.probabilities.get(0))
        to_come = self.plan.slices - chunk.stop
        judged = to_come if len(seconds) >= FEW_SLICES else 0
        why = self.clock.why_stop(reserve=judged * min(seconds) + self._reserve)
        if why == "budget":
            least = self.clock.elapsed + to_come * float(np.median(seconds)) + self._reserve
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

    def _refine(self, chunk: slice, members: range) -> str | None:
        """Add the samples ``members`` to the slices ``chunk``; the reason when stopped, with what there is kept."""
        pairs = len(members) * (chunk.stop - chunk.start)
        if self.settled[chunk].all():
            self._report(pairs * len(self._table))
            return None
        first_step = self._reserve + self._call_seconds * pairs
        stopped = self.clock.why_stop(first_step) if self.clock.bounded else None
        if stopped is not None:
            return stopped
        conditions = self._conditions.get(chunk.start)
        if conditions is None:
            conditions = self._prior(chunk)
            if self._in_turn:
                self._conditions[chunk.start] = conditions
        calls, begun = 0, self.clock.elapsed

        def report(images: int) -> None:
            nonlocal calls
            calls += images
            self._report(images)

        def stop(images: int) -> bool:
            nonlocal stopped
            if calls:
                self._call_seconds = (self.clock.elapsed - begun) / calls
            stopped = self.clock.why_stop(self._reserve + self._call_seconds * images)
            return stopped is not None

        with self.clock.stage("loop"):
            ask = stop if self.clock.bounded else None
            sampled = self.runner.sample(conditions, chunk, members, report, ask)
        with self.clock.stage("fuse"):
            self._fuse(chunk, members, sampled)
        return stopped

    def _fuse(self, chunk: slice, members: range, sampled: Sampled) -> None:
        """``sampled`` joins the earlier rounds of ``chunk`` unless it was stopped halfway."""
        whole = sampled.steps == len(self._table)
        earlier = self._samples.get(chunk.start, [])
        if earlier and not whole:
            return
        parts = [*earlier, sampled]
        if (self.planned.memory.keep_samples or self._in_turn) and members.stop < self.sampling.samples:
            self._samples[chunk.start] = parts
        else:
            self._samples.pop(chunk.start, None)
        samples = sum(part.members for part in parts)
        fused = self.runner.fuse(parts)
        # After the last round there is nothing that agreement would leave out.
        asked = self.sampling.policy.agree and earlier and members.stop < self.sampling.samples
        before = self._kept(chunk) if asked else None
        self.answer.put(chunk, fused, steps=sampled.steps, samples=samples, only=~self.settled[chunk])
        if before is not None:
            self.settled[chunk] |= masks_agree(before, self._kept(chunk))

    def _kept(self, chunk: slice) -> NDArray[np.float32]:
        return np.stack([self.answer.probabilities.get(index) for index in _indices(chunk)])

    @property
    def _table(self) -> SamplerTable:
        assert self.sampling.table is not None
        return self.sampling.table

    def _report(self, calls: int) -> None:
        self._done += calls
        if self.progress is not None:
            steps = 0 if self.sampling.table is None else len(self.sampling.table)
            total = self.plan.slices * (1 + steps * self.sampling.samples)
            done = min(1.0, self._done / total)
            self._share = self._share_before + (1 - self._share_before) * done
            self.progress(self._share)


def _indices(chunk: slice) -> range:
    return range(chunk.start, chunk.stop)
