"""The denoiser in PyTorch eager: what the runtime is measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError, DataError
from verdiff.extras import install

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class StepInputs:
    """The inputs of one denoiser step, the same for every rival; the maps are [N, C, H, W]."""

    x: Maps
    timestep: int
    prior: Maps
    features: tuple[Maps, ...]


@dataclass(frozen=True)
class TorchRival:
    """The step in PyTorch.

    Attributes:
        step: Takes the inputs and whether to lay memory out channels-last; gives the call to time.
        same_weights: Whether it computes with the bundle's weights, so that its output can be compared.
    """

    step: Callable[[StepInputs, bool], Callable[[], Maps]]
    same_weights: bool


def torch_network(bundle: Bundle, training_run: Path | None) -> tuple[Any, Any]:
    """The bundle's network in PyTorch, float32, on the CPU, and its run's configuration.

    Weights come from the training run. Without one the network is built from the configuration that ships under the
    bundle's model id and keeps its random weights: a step takes as long, but its output cannot be compared.

    Raises:
        BackendError: torch is not installed.
        DataError: The run or the configuration is missing, or its network is not the bundle's.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            "torch is not installed", "PyTorch for this rival", f"pip install torch==2.13.0, then {install('train')}"
        ) from error
    from verdiff.train.building import build_network
    from verdiff.train.checkpoint import load_network
    from verdiff.train.config import load_config
    from verdiff.train.networks.folding import folded

    manifest = bundle.manifest
    if training_run is None:
        config = load_config(str(manifest.training.get("configuration", manifest.model_id)))
        torch.manual_seed(0)
        net = build_network(config, len(manifest.labels)).eval().requires_grad_(False)
    else:
        net, checkpoint = load_network(training_run)
        config = checkpoint.config
        if manifest.weights_stored == "float16":
            from verdiff.export.torch_graphs import round_weights_to_half

            net = folded(net)
            round_weights_to_half(net)
    found = sorted(config.network.features.items())
    stated = sorted((feature.stride, feature.channels) for feature in manifest.features)
    if found != stated:
        raise DataError(
            f"a network whose features are (stride, channels) {found}, where the bundle states {stated}",
            "the network the bundle was exported from",
            "name the training run behind the bundle",
        )
    return net, config


def torch_step_factory(bundle: Bundle, training_run: Path | None, threads: int) -> TorchRival:
    """Build the bundle's denoiser in PyTorch, float32, on the CPU; see :func:`torch_network`."""
    net, config = torch_network(bundle, training_run)
    import torch

    from verdiff.train.prediction import X0Denoiser

    denoiser = X0Denoiser.of(net, config.process).eval()
    torch.set_num_threads(threads)

    def step(inputs: StepInputs, channels_last: bool) -> Callable[[], Maps]:
        layout: Any = torch.channels_last if channels_last else torch.contiguous_format
        # The layout is a property of the weights, so each call to time has its own copy of them.
        module: Any = copy.deepcopy(denoiser)
        module.to(memory_format=layout)
        maps: Sequence[Any] = [
            torch.from_numpy(array).contiguous(memory_format=layout)
            for array in (inputs.x, inputs.prior, *inputs.features)
        ]
        timestep = torch.full((len(inputs.x),), float(inputs.timestep))

        def call() -> Maps:
            with torch.inference_mode():
                output: Maps = module(maps[0], timestep, *maps[1:]).numpy()
            return output

        return call

    return TorchRival(step, same_weights=training_run is not None)
