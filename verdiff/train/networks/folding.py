"""Batch norms folded into the convolutions in front of them: what an exported network computes with."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy of an evaluation-mode network without the batch norms that a convolution can take in; the same function.

    A module names its pairs of convolution and norm in ``FOLDABLE``; other norms among them stay as they are.
    """
    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        for convolution, norm in getattr(module, "FOLDABLE", ()):
            statistics = getattr(module, norm)
            if isinstance(statistics, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), statistics))
                setattr(module, norm, nn.Identity())
    return copied.requires_grad_(False)
