"""The runner of host backends: numpy between the calls of a :class:`~verdiff.runtime.backends.Backend`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import Fused, StepState, fuse, fuse_mean, noise_source, run_loop
from verdiff.errors import BudgetError
from verdiff.runtime.backends.protocol import CompilesSizes
from verdiff.runtime.batching import Batcher
from verdiff.runtime.consensus import fuse_staple
from verdiff.runtime.memory import LANE_BYTES, available_bytes, network_bytes, plan_memory
from verdiff.runtime.runner import Maps, OnImages, Sampled, Stop

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.backends import Backend
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.lanes import Lanes
    from verdiff.runtime.memory import MemoryPlan
    from verdiff.runtime.sampling import Sampling

Conditions = tuple[Maps, tuple[Maps, ...]]


@dataclass
class HostRunner:
    """One call on the host.

    Attributes:
        backend: The networks.
        manifest: The model's.
        clock: Gets the time of ``noise`` and ``denoiser``.
        lanes: Workers, as many as the backend has lanes.
        limit: Bytes the call may take; None is what the machine has free.
    """

    backend: Backend
    manifest: Manifest
    clock: Clock
    lanes: Lanes
    limit: int | None = None
    batcher: Batcher = field(init=False)
    _sampling: Sampling = field(init=False)

    def begin(self, plan: SlicePlan, sampling: Sampling, *, chunk: int | None, anytime: bool) -> MemoryPlan:
        """See :meth:`verdiff.runtime.runner.Runner.begin`."""
        self._sampling = sampling
        limit = available_bytes() if self.limit is None else self.limit

        def planned(lanes: int) -> MemoryPlan:
            batch = self.backend.batch * lanes
            return plan_memory(
                plan,
                self.manifest,
                sampling,
                backend=self.backend.name,
                batch=batch,
                chunk=chunk or batch,
                anytime=anytime,
                limit=limit,
            )

        if self._in_lanes(plan):
            with suppress(BudgetError):
                memory = planned(self.lanes.count)
                self.batcher = Batcher(self.backend.lane, self.lanes)
                return memory
        self.batcher = Batcher(self.backend)
        return planned(1)

    def waits_s(self, plan: SlicePlan, denoiser: bool) -> float:
        """See :meth:`verdiff.runtime.runner.Runner.waits_s`; some backends compile for every new size."""
        form = self.backend.lane if self._in_lanes(plan) else self.backend
        if not isinstance(form, CompilesSizes):
            return 0.0
        return form.waits_s(plan.padded_rows, plan.padded_cols, denoiser=denoiser)

    def _in_lanes(self, plan: SlicePlan) -> bool:
        """Whether several slices are computed at once, if there is the memory for it.

        With fewer slices than lanes, every thread works on one network call; so it does where slices are so large that
        lanes would take more memory than all else.
        """
        large = network_bytes(plan, self.manifest, self.backend.name) > LANE_BYTES
        return plan.slices >= self.lanes.count > 1 and not large

    def prior(self, image: Maps, chunk: slice) -> Conditions:
        """See :meth:`verdiff.runtime.runner.Runner.prior`."""
        return self.batcher.prior(image)

    def fuse_prior(self, conditions: Conditions) -> Fused:
        """See :meth:`verdiff.runtime.runner.Runner.fuse_prior`."""
        return self._by_slice(fuse_mean, conditions[0][None])

    def structures(self, conditions: Conditions) -> NDArray[np.bool_]:
        """See :meth:`verdiff.runtime.runner.Runner.structures`."""
        return np.asarray(np.any(conditions[0] > 0, axis=1))

    def sample(
        self, conditions: Conditions, chunk: slice, members: range, report: OnImages, stop: Stop | None
    ) -> Sampled:
        """See :meth:`verdiff.runtime.runner.Runner.sample`."""
        table, clock = self._sampling.table, self.clock
        assert table is not None
        prior, features = conditions
        slices = range(chunk.start, chunk.stop)
        pairs = [(index, member) for member in members for index in slices]
        owner: NDArray[np.intp] = np.tile(np.arange(len(slices)), len(members))
        rows: list[Maps] = []
        steps = 0
        sources = [
            noise_source(self._sampling.seed, slices=[index], samples=[member], shape=prior.shape[1:])
            for index, member in pairs
        ]

        def noise(step: int) -> Maps:
            with clock.stage("noise"):
                return np.concatenate(self.lanes.map(lambda source: source(step), sources))

        def denoise(x: Maps, timestep: int) -> Maps:
            with clock.stage("denoiser"):
                x0hat = self.batcher.denoise(x, timestep, prior, features, owner)
            report(len(x))
            return x0hat

        def on_step(state: StepState) -> bool:
            nonlocal steps
            steps = state.row + 1
            return steps == len(table) or stop is None or not stop(len(pairs))

        noise_before = clock.timings["noise"]
        f = prior if len(members) == 1 else prior[owner]
        keep = rows if self._sampling.keeps_steps else None
        last = run_loop(denoise, table, f, noise, on_step=on_step, keep_steps=keep)
        clock.timings["loop"] -= clock.timings["noise"] - noise_before
        kept = np.stack(rows) if rows else last[None]
        return Sampled(len(members), steps, kept.reshape(len(kept), len(members), len(slices), *kept.shape[2:]))

    def fuse(self, parts: list[Sampled]) -> Fused:
        """See :meth:`verdiff.runtime.runner.Runner.fuse`."""
        stack: Maps = parts[0].kept if len(parts) == 1 else np.concatenate([part.kept for part in parts], axis=1)
        if self._sampling.keeps_steps and len(stack) > 1:
            return self._by_slice(partial(fuse, self._sampling.fusion), stack.swapaxes(0, 1), axis=2)
        return self._by_slice(fuse_staple if self._sampling.fusion == "staple" else fuse_mean, stack[-1])

    def _by_slice(self, fuse: Callable[[Maps], Fused], stack: Maps, axis: int = 1) -> Fused:
        """``fuse`` of each slice of ``stack``, which lie along ``axis``: no slice's answer depends on another."""
        slices = np.split(stack, stack.shape[axis], axis=axis)
        fused = self.lanes.map(fuse, slices)
        return Fused(*(np.concatenate([getattr(part, each.name) for part in fused]) for each in fields(Fused)))
