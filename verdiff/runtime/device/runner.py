"""The runner of device backends: one call whose loops are captured graphs; see :mod:`verdiff.runtime.runner`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import FUSIONS, STEPS_FUSIONS, Fused, fused_rows
from verdiff.errors import BackendError, InputError
from verdiff.runtime.device.kernels import Pairs
from verdiff.runtime.device.layout import Need
from verdiff.runtime.device.network import CallShape
from verdiff.runtime.memory import MemoryPlan
from verdiff.runtime.runner import Maps, OnImages, Sampled, Stop

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.device.driver import Pointer, Stream
    from verdiff.runtime.device.loop import Loop
    from verdiff.runtime.device.workspace import Workspace
    from verdiff.runtime.sampling import Sampling


@dataclass(frozen=True)
class Slot:
    """Where the conditions or the samples of a chunk of slices lie: the slot's number, and how many slices."""

    index: int
    slices: int


class DeviceRunner:
    """One call on a device.

    Args:
        backend: The model on its device, held for this call.
        stream: Where the work is put.
    """

    space: Workspace
    loop: Loop
    _sampling: Sampling
    _chunk: int

    def __init__(self, backend: DeviceBackend, stream: Stream) -> None:
        self.backend, self.driver, self.stream = backend, backend.driver, stream

    def begin(self, plan: SlicePlan, sampling: Sampling, *, chunk: int | None, anytime: bool) -> MemoryPlan:
        """See :meth:`verdiff.runtime.runner.Runner.begin`."""
        rows, cols = plan.padded_rows, plan.padded_cols
        usual, _ = self.backend.networks.batches(rows, cols)
        rounds = anytime and sampling.table is not None

        def need_of(batch: int) -> Need:
            chunks = math.ceil(plan.slices / min(batch, chunk or batch)) if rounds else 1
            return self.need_at(rows, cols, sampling, batch, chunks)

        with self.backend.working():
            need = self.backend.spaces.fit(need_of, usual)
        self.open(need, sampling)
        self._chunk = min(need.batch, chunk or need.batch, plan.slices)
        kept = rounds and need.chunks * self._chunk >= plan.slices
        return MemoryPlan(self._chunk, keep_features=kept, keep_samples=kept, bytes=self.space.layout.size)

    def waits_s(self, plan: SlicePlan, denoiser: bool) -> float:
        """0: its budgets are not judged by a pace."""
        return 0.0

    def need_at(self, rows: int, cols: int, sampling: Sampling, batch: int, chunks: int = 1) -> Need:
        """What calls of ``batch`` slices of this size need room for, ``chunks`` chunks of them at once.

        Raises:
            InputError: A fusion that there is no kernel for.
        """
        # STAPLE's expectation maximisation is ITK's and runs on the host.
        if sampling.fusion not in FUSIONS:
            raise InputError(
                f"fusion {sampling.fusion!r} on {self.backend.device}",
                f"one of {', '.join(FUSIONS)}",
                "choose one of them, or segment on the processor",
            )
        shape = CallShape(batch, rows, cols)
        networks, steps = self.backend.networks, 0 if sampling.table is None else len(sampling.table)
        return Need(
            batch=batch,
            rows=rows,
            cols=cols,
            classes=self.backend.classes,
            features=networks.features,
            steps=steps,
            noises=1 + sum(_noisy_rows(sampling)),
            samples=max(1, sampling.samples),
            kept=steps if sampling.keeps_steps else 1,
            chunks=chunks,
            sample_chunks=chunks,
            activations=networks.activations(shape),
        )

    def open(self, need: Need, sampling: Sampling) -> None:
        """Make one shape of call ready: its arrays and networks, the captured loop, the sampler's table."""
        self._sampling, self._chunk = sampling, need.batch
        table = sampling.table
        if not self.backend.spaces.ready(need, table):
            # What is staged or evicted now may be in use by work that an earlier call left on its stream.
            self.backend.settle()
        with self.backend.working():
            self.space, loop = self.backend.spaces.take(need, _noisy_rows(sampling))
            self.backend.spaces.use(need, table, self.stream)
        self.backend.batch = need.batch
        if loop is not None:
            self.loop = loop

    def prior(self, image: Maps, chunk: slice) -> Slot:
        """See :meth:`verdiff.runtime.runner.Runner.prior`."""
        slot = Slot(min(chunk.start // self._chunk, self.space.need.chunks - 1), len(image))
        with self.backend.working():
            staged = self.space.staged["image"].values[0]
            staged[: len(image)] = image
            # Every call has the same batch: a kernel may be chosen by it and round differently.
            staged[len(image) :] = image[-1]
            self.space.upload("image", self.stream)
            self.space.run_prior(slot.index, self.stream)
            self.driver.synchronise(self.stream)
        return slot

    def fuse_prior(self, conditions: Slot) -> Fused:
        """See :meth:`verdiff.runtime.runner.Runner.fuse_prior`."""
        with self.backend.working():
            self.enqueue_prior_answer(conditions)
            return self.download(conditions.slices)

    def structures(self, conditions: Slot) -> NDArray[np.bool_]:
        """See :meth:`verdiff.runtime.runner.Runner.structures`."""
        return np.asarray(np.any(self.fuse_prior(conditions).probabilities > 0.5, axis=1))

    def sample(self, conditions: Slot, chunk: slice, members: range, report: OnImages, stop: Stop | None) -> Sampled:
        """See :meth:`verdiff.runtime.runner.Runner.sample`."""
        kept = Slot(min(conditions.index, self.space.need.sample_chunks - 1), conditions.slices)
        whole, steps = 0, len(self.loop)
        with self.backend.working():
            for pairs in self.groups(chunk.start, conditions.slices, members):
                if whole and stop is not None and stop(pairs.count):
                    break
                self.enqueue_inputs(conditions, pairs)
                done = self._run(pairs, report, stop)
                if done == len(self.loop) or not whole:
                    self.enqueue_keeping(kept, pairs, done)
                    whole, steps = whole + pairs.samples, done
                if done < len(self.loop):
                    break
            self.driver.synchronise(self.stream)
        return Sampled(whole, steps, kept)

    def fuse(self, parts: list[Sampled]) -> Fused:
        """See :meth:`verdiff.runtime.runner.Runner.fuse`."""
        slot: Slot = parts[0].kept
        with self.backend.working():
            self.enqueue_fusion(slot, sum(part.members for part in parts), parts[-1].steps)
            return self.download(slot.slices)

    def groups(self, first_slice: int, slices: int, members: range) -> list[Pairs]:
        """The loops of a chunk: as many members of every slice at once as a batch holds."""
        together = max(1, self.space.need.batch // slices)
        return [
            Pairs(first_slice, slices, first, min(together, members.stop - first))
            for first in range(members.start, members.stop, together)
        ]

    def enqueue_inputs(self, conditions: Slot, pairs: Pairs) -> None:
        """The conditions in the order of the pairs, and all the noise their loop will read."""
        space = self.space
        space.gather(conditions.index, pairs, self.stream)
        size = space.need.classes * space.need.pixels
        for place, step in self.loop.noises():
            out = space.address("noise", place)
            space.kernels.noise(
                out,
                seed=self._sampling.seed,
                step=step,
                pairs=pairs,
                batch=space.need.batch,
                size=size,
                stream=self.stream,
            )

    def enqueue_loop(self) -> None:
        """All steps."""
        self.loop.run(self.stream)

    def enqueue_keeping(self, slot: Slot, pairs: Pairs, done: int) -> None:
        """The x0hat of the last of ``done`` steps, or of each of them, to the other samples of the chunk."""
        need = self.space.need
        maps = 4 * need.classes * need.pixels
        for place, row in enumerate(range(done) if need.kept > 1 else [done - 1]):
            target = self._samples(slot, place) + pairs.first_sample * pairs.slices * maps
            self.driver.copy(target, self.loop.x0hat(row), pairs.count * maps, self.stream)

    def enqueue_fusion(self, slot: Slot, members: int, steps: int) -> None:
        """The answer of a chunk from its first ``members`` samples."""
        need, samples = self.space.need, self._samples(slot, 0)
        answer = self.answer(slot.slices)
        if self._sampling.keeps_steps and steps > 1:
            variant = STEPS_FUSIONS[self._sampling.fusion]
            self.space.kernels.fuse_steps(
                answer,
                samples,
                members=members,
                slices=slot.slices,
                pixels=need.pixels,
                row=need.samples * need.batch * need.classes * need.pixels,
                rows=fused_rows(variant, steps),
                variant=variant,
                stream=self.stream,
            )
            return
        self.space.kernels.fuse_mean(
            answer, samples, members=members, slices=slot.slices, pixels=need.pixels, stream=self.stream
        )

    def enqueue_prior_answer(self, conditions: Slot) -> None:
        """The prior's own answer."""
        self.space.kernels.fuse_mean(
            self.answer(conditions.slices),
            self.space.address("prior", conditions.index),
            members=1,
            slices=conditions.slices,
            pixels=self.space.need.pixels,
            stream=self.stream,
        )

    def answer(self, slices: int) -> tuple[Pointer, Pointer, Pointer]:
        """Where the probabilities, the uncertainty and the spread of a chunk are put.

        The uncertainty comes last: only a session on the device reads it, and a download ends before it.
        """
        first, plane = self.space.address("answer"), 4 * slices * self.space.need.pixels
        spread = first + plane * self.space.need.classes
        return first, spread + plane, spread

    def _run(self, pairs: Pairs, report: OnImages, stop: Stop | None) -> int:
        """The loop; how many of its steps were run."""
        steps = len(self.loop)
        if stop is None:
            self.enqueue_loop()
            report(steps * pairs.count)
            return steps
        events = self.backend.events
        row = 0
        for row in range(steps):
            self.loop.step(row, self.stream)
            self.driver.record(events[row % 2], self.stream)
            if row == 0:
                continue
            # This step waits behind the one before it, so the device is busy while the caller is asked.
            self.driver.finish(events[(row - 1) % 2])
            report(pairs.count)
            if row + 1 < steps and stop(2 * pairs.count):
                break
        self.driver.finish(events[row % 2])
        report(pairs.count)
        return row + 1

    def _samples(self, slot: Slot, place: int) -> Pointer:
        need = self.space.need
        row = 4 * need.samples * need.batch * need.classes * need.pixels
        return self.space.address("samples", slot.index) + place * row

    def download(self, slices: int) -> Fused:
        """The answer, in page-locked memory that the next download overwrites; the host derives the uncertainty."""
        need = self.space.need
        values, flags = self.space.download_answer(slices, self.stream)
        check_finite(flags, self._sampling, self.backend)
        plane = slices, need.rows, need.cols
        probabilities, spread = np.split(values, [slices * need.classes * need.pixels])
        return Fused(probabilities.reshape(slices, need.classes, *plane[1:]), spread.reshape(plane))


@contextmanager
def open_runner(backend: DeviceBackend, stream: Stream | None = None) -> Iterator[DeviceRunner]:
    """A call on a device, which is held until it is over; see :meth:`DeviceBackend.held`."""
    with backend.held(stream) as held:
        yield DeviceRunner(backend, held)


def check_finite(flags: NDArray[np.int32], sampling: Sampling, backend: DeviceBackend) -> None:
    """Refuse an answer that rests on a number that is not finite.

    Raises:
        BackendError: Names the first network call that gave one.
    """
    if not flags.any():
        return
    first, table = int(np.flatnonzero(flags)[0]), sampling.table
    what = "prior"
    if first and table is not None:
        what = f"denoiser at step {first} of {len(table)} (timestep {table.timesteps[first - 1]})"
    raise BackendError(
        f"the {what} gave NaN or infinity in {backend.precision} on {backend.name}",
        "finite numbers",
        "use --precision fp32, or another backend, and report the model",
    )


def _noisy_rows(sampling: Sampling) -> tuple[bool, ...]:
    """Whether each row of the table takes noise."""
    table = sampling.table
    return () if table is None else tuple(table.needs_noise(row) for row in range(len(table)))
