"""First weights from a bundle: training goes on where an exported model stands, with no run folder at hand.

An export folds batch norms into the convolutions in front of them (:mod:`verdiff.train.networks.folding`), and a
network without them trains badly. They are put back here: each gets, as its running statistics, what its convolution
gives on batches of the data, and the weight and bias that undo them. The function stays the same, up to the rounding
of weights that are stored as float16; where the run resamples maps otherwise than the model did, the weights are a
beginning and no more. Logits that an export shifted (``--decide``) are shifted back, so that a probability of one half
is one half again: an export of the run decides anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from verdiff.bundle import Bundle
from verdiff.errors import BundleError, DataError
from verdiff.train.batches import generator_for, make_batch
from verdiff.train.building import build_network
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import Dataset
from verdiff.train.networks import SegmentationModel
from verdiff.train.networks.deciding import decide
from verdiff.train.networks.folding import folded
from verdiff.train.run_kind import objective_of_system

# Where a role's graph has the parameters of which part of the network (verdiff.export.torch_graphs).
_PREFIXES = {"prior": ("net.", "prior."), "denoiser": ("denoiser.", "denoiser.")}
_BATCHES = 12
# A channel whose convolution gives less than this is silent; there is nothing to scale.
_SILENT = 1e-3


def weights_of_bundle(bundle: Bundle, config: RunConfig, dataset: Dataset) -> dict[str, Tensor]:
    """The state of ``config``'s network that computes what the bundle's FP32 graphs compute.

    Args:
        bundle: Bundle of a model with the structures of ``dataset``.
        config: Configuration of the run that is to begin.
        dataset: What it is trained on; its batches give the norms their statistics.

    Raises:
        BundleError: Its manifest does not say what its export decided.
        DataError: It is a model of another network.
    """
    net = folded(build_network(config, len(dataset.labels)))
    fixed = {key for key, _ in net.named_buffers()}
    stored = {key: value for key, value in _parameters(bundle).items() if key not in fixed}
    wanted = {key: value.shape for key, value in net.named_parameters()}
    there = {key: value.shape for key, value in stored.items()}
    if there != wanted:
        other = sorted(key for key in {*wanted, *there} if there.get(key) != wanted.get(key))
        raise DataError(
            f"--from {bundle.path.name}, whose graphs are not those of this [network] ({other[0]} differs)",
            f"a model of {config.system} with the sizes of the configuration",
            "train with the configuration that the model was trained with, or without --from",
        )
    net.load_state_dict(stored, strict=False)
    decide(net, dataset.labels, taken_back(bundle.manifest.training.get("decided", {})))
    return _unfolded(net, config, dataset)


def taken_back(decided: Any) -> dict[str, float]:
    """What undoes an export's decisions: the complement of each probability, whose logit is its negative.

    Args:
        decided: ``training.decided`` of a manifest, which may come from anybody.

    Raises:
        BundleError: It is no probability by structure.
    """
    try:
        return {name: 1 - float(probability) for name, probability in decided.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BundleError(
            f"training.decided is {decided!r:.80}", "a probability for each structure named", "use another bundle"
        ) from error


def _parameters(bundle: Bundle) -> dict[str, Tensor]:
    """The parameters that the FP32 graphs keep under the names they have in the network."""
    found: dict[str, Tensor] = {}
    for role, (there, here) in _PREFIXES.items():
        if not bundle.has(role):
            continue
        for tensor in onnx.load_from_string(bundle.graph(role)).graph.initializer:
            if tensor.name.startswith(there):
                values = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
                found[here + tensor.name.removeprefix(there).removesuffix("_half")] = values
    return found


@torch.no_grad()
def _unfolded(net: SegmentationModel, config: RunConfig, dataset: Dataset) -> dict[str, Tensor]:
    """The state of the network with its batch norms that computes what ``net``, which has none, computes."""
    whole = build_network(config, net.classes)
    pairs = [
        (f"{path}.{convolution}", f"{path}.{norm}")
        for path, module in whole.named_modules()
        for convolution, norm in getattr(module, "FOLDABLE", ())
        if isinstance(getattr(module, norm), nn.BatchNorm2d)
    ]
    state = {**whole.state_dict(), **net.state_dict()}
    for (convolution, norm), (mean, deviation) in zip(
        pairs, _spreads(net, [convolution for convolution, _ in pairs], config, dataset), strict=True
    ):
        # The convolution is scaled to a deviation of 1, where a network's first weights have it too.
        scale = torch.where(deviation > _SILENT, deviation, 1.0)
        bias = state.pop(f"{convolution}.bias")
        state[f"{convolution}.weight"] = state[f"{convolution}.weight"] / scale[:, None, None, None]
        statistics = whole.get_submodule(norm)
        assert isinstance(statistics, nn.BatchNorm2d)
        if whole.get_submodule(convolution).bias is not None:
            state[f"{convolution}.bias"] = torch.zeros_like(bias)
        # What came out less its bias is what the convolution now gives, times the scale.
        state[f"{norm}.running_mean"] = (mean - bias) / scale
        state[f"{norm}.running_var"] = (deviation / scale).square()
        state[f"{norm}.weight"] = scale * (state[f"{norm}.running_var"] + statistics.eps).sqrt()
        state[f"{norm}.bias"] = mean.clone()
    return {key: state[key] for key in whole.state_dict()}


def _spreads(
    net: SegmentationModel, convolutions: list[str], config: RunConfig, dataset: Dataset
) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of each output channel of these convolutions, over some batches as training makes them."""
    if not convolutions:
        return []
    widths = {name: len(net.get_parameter(f"{name}.weight")) for name in convolutions}
    sums = {name: torch.zeros(3, width, dtype=torch.float64) for name, width in widths.items()}

    def watch(name: str) -> None:
        def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            values = output.double()
            count = torch.full((values.shape[1],), values.numel() / values.shape[1], dtype=torch.float64)
            sums[name] += torch.stack([count, values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])

        net.get_submodule(name).register_forward_hook(note)

    for name in convolutions:
        watch(name)
    objective = objective_of_system(config, torch.device("cpu"))
    cases = list(dataset.cases)
    for number in range(_BATCHES):
        rng = generator_for(config.training.seed, number)
        objective(net, *make_batch(cases, net.classes, config, rng), rng)
    spreads = []
    for count, total, squares in sums.values():
        mean = total / count
        spreads.append((mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()))
    return spreads
