"""PyTorch on stacks of slices on the CPU: the same two networks and table, eager, channels-last or compiled."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from studies.library.runtime_slices import Answer, Maps
from verdiff.benchmarks.torch_loop import torch_loop
from verdiff.benchmarks.torch_rival import torch_network
from verdiff.diffusion import SamplerTable

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

Form = Literal["eager", "channels last", "compiled"]


class TorchSlices:
    """The networks of a bundle in PyTorch, float32.

    Slices go one a call, which fills the cores (batches of 2 and 4 take as long a slice); noise is PyTorch's own.

    Args:
        bundle: The model.
        training_run: The run behind it, or one of its checkpoints; None leaves random weights.
        threads: Threads of every operator.

    Raises:
        BackendError: torch is not installed.
        DataError: The run or its configuration is missing, or its network is not the bundle's.
    """

    def __init__(self, bundle: Bundle, training_run: Path | None, threads: int) -> None:
        net, config = torch_network(bundle, training_run)
        import torch

        from verdiff.train.prediction import X0Denoiser

        torch.set_num_threads(threads)
        self.same_weights = training_run is not None
        self._prior = net.prior
        self._denoiser = X0Denoiser.of(net, config.process).eval()
        self._seed = bundle.manifest.defaults.seed

    def priors(self, images: Maps) -> Maps:
        """The prior's probabilities [n, K, H, W]."""
        import torch

        with torch.inference_mode():
            found: Maps = torch.sigmoid(self._prior(torch.from_numpy(images)).logits).numpy()
        return found

    def answer(
        self, table: SamplerTable, samples: int = 1, *, form: Form = "eager", stop_after: int | None = None
    ) -> Answer:
        """Prior, loop and fusion slice by slice, as :meth:`RuntimeSlices.answer` has them.

        Args:
            table: The sampler.
            samples: Runs a slice.
            form: ``"compiled"`` is ``torch.compile`` over channels-last networks; the first call compiles both.
            stop_after: End every run after so many steps; None runs the whole table.
        """
        import torch

        layout: Any = torch.contiguous_format if form == "eager" else torch.channels_last
        # The layout is a property of the weights, so each form has its own copy of them.
        prior: Any = copy.deepcopy(self._prior).to(memory_format=layout)
        step: Any = copy.deepcopy(self._denoiser)
        step.to(memory_format=layout)
        if form == "compiled":
            prior, step = torch.compile(prior), torch.compile(step)
        timesteps = [torch.full((1,), float(timestep)) for timestep in table.timesteps.tolist()]
        generator = torch.Generator().manual_seed(self._seed)

        def one(image: Any) -> Any:
            output = prior(image.contiguous(memory_format=layout))
            given = (2 * torch.sigmoid(output.logits) - 1, *output.features)

            def noise(number: int) -> Any:
                return torch.randn(given[0].shape, generator=generator)

            drawn = [torch_loop(step, table, given, timesteps, noise, stop_after=stop_after) for _ in range(samples)]
            return (torch.stack(drawn).mean(dim=0) + 1) / 2

        def answer(images: Maps, numbers: Sequence[int]) -> Maps:
            with torch.inference_mode():
                found: Maps = torch.cat([one(image[None]) for image in torch.from_numpy(images)]).numpy()
            # Scoring and the other rivals work on numpy's own order of axes.
            return np.ascontiguousarray(found)

        return answer
