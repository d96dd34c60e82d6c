"""The runtime's networks, loop and noise on stacks of slices: what the cases that weigh time against Dice run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.library.patients import as_probability
from verdiff.diffusion import SamplerTable, StepState, fuse_mean, noise_source, run_loop
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import Backend
from verdiff.runtime.lanes import Lanes

Maps = NDArray[np.float32]
Condition = tuple[Maps, tuple[Maps, ...]]
"""Of one slice: the prior [1, K, H, W] on [-1, 1] and the features."""

Answer = Callable[[Maps, Sequence[int]], Maps]
"""A way to segment: images [n, 1, H, W] and their numbers in the scan -> probabilities [n, K, H, W] in [0, 1]."""


class RuntimeSlices:
    """A loaded model on stacks of slices, as many at once as its backend has lanes; the bits are the Segmenter's.

    Args:
        segmenter: A model with a denoiser, on the CPU.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        # These cases load their model on the CPU.
        self.segmenter, self.backend = segmenter, segmenter.loaded.executor.networks
        self.seed = segmenter.manifest.defaults.seed
        self.lanes = Lanes(self.backend.lanes)

    def __enter__(self) -> RuntimeSlices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lanes.close()

    def conditions(self, images: Maps) -> list[Condition]:
        """Prior and features of each of ``images`` [n, 1, H, W]."""
        network = self._network(len(images))
        return self.lanes.map(lambda image: network.prior(image[None]), images)

    def priors(self, images: Maps) -> Maps:
        """The prior's probabilities [n, K, H, W]."""
        return as_probability(np.concatenate([prior for prior, _ in self.conditions(images)]))

    def sampled(
        self, conditions: Sequence[Condition], numbers: Sequence[int], table: SamplerTable, samples: int = 1
    ) -> Maps:
        """Probabilities [n, K, H, W], the mean of ``samples`` runs of ``table`` a slice.

        Args:
            conditions: One a slice, computed before.
            numbers: The slices' numbers in the scan, which their noise depends on.
            table: The sampler.
            samples: Runs a slice.
        """
        network = self._network(len(conditions))

        def one(pair: tuple[Condition, int]) -> Maps:
            return self._fused(network, *pair, table, samples)

        return np.concatenate(self.lanes.map(one, zip(conditions, numbers, strict=True)))

    def answer(self, table: SamplerTable, samples: int = 1, *, stop_after: int | None = None) -> Answer:
        """Prior, loop and fusion of each slice as one piece of work, as :meth:`verdiff.runtime.Segmenter.segment` does.

        Args:
            table: The sampler.
            samples: Runs a slice.
            stop_after: End every run after so many steps; None runs the whole table.
        """

        def answer(images: Maps, numbers: Sequence[int]) -> Maps:
            network = self._network(len(images))

            def one(pair: tuple[Maps, int]) -> Maps:
                image, number = pair
                return self._fused(network, network.prior(image[None]), number, table, samples, stop_after)

            return np.concatenate(self.lanes.map(one, zip(images, numbers, strict=True)))

        return answer

    def prior_answer(self) -> Answer:
        """The prior alone."""
        return lambda images, numbers: self.priors(images)

    def _network(self, slices: int) -> Backend:
        """The network for so many slices: with fewer than lanes every thread works on one call, as in the runtime."""
        return self.backend.lane if slices >= self.lanes.count else self.backend

    def _fused(
        self,
        network: Backend,
        condition: Condition,
        number: int,
        table: SamplerTable,
        samples: int,
        stop_after: int | None = None,
    ) -> Maps:
        prior, features = condition

        def denoise(x: Maps, timestep: int) -> NDArray[Any]:
            return network.denoise(x, timestep, prior, features)

        def on_step(state: StepState) -> bool:
            return state.row + 1 != stop_after

        drawn = [
            run_loop(
                denoise,
                table,
                prior,
                noise_source(self.seed, slices=[number], samples=[sample], shape=prior.shape[1:]),
                on_step=on_step,
            )
            for sample in range(samples)
        ]
        return fuse_mean(np.stack(drawn)).probabilities
