"""Size and cost of every system as its shipped configuration makes it: ``python -m tools.system_figures``.

These are the figures of :data:`verdiff.systems.SYSTEMS`; a test holds the two together.
"""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from verdiff.systems import SYSTEMS
from verdiff.train.building import build_network
from verdiff.train.config import load_config

CLASSES = 3
SLICE = (320, 256)


@torch.no_grad()
def figures(name: str) -> tuple[int, float]:
    """Parameters, and GFLOP of one pass of each network on one slice or window.

    Counted are convolutions and matrix products, a multiplication and its addition as two operations.

    Raises:
        BackendError: A library that the network is made of is not installed.
    """
    config = load_config(SYSTEMS[name].configuration)
    # Tensors of shapes without values: nothing is computed, only counted.
    with FakeTensorMode():
        net = build_network(config, CLASSES).eval()
        size = config.network.patch if config.dimensions == 3 else _whole(config.network.multiple)
        with FlopCounterMode(display=False) as counter:
            output = net.prior(torch.zeros(1, 1, *size))
            if net.denoiser is not None:
                net.denoiser(torch.zeros_like(output.logits), torch.ones(1), output.logits, output.features)
    pixels = SLICE[0] * SLICE[1] / (size[0] * size[1]) if config.dimensions == 2 else 1.0
    return sum(p.numel() for p in net.parameters()), pixels * counter.get_total_flops() / 1e9


def _whole(multiple: int) -> tuple[int, ...]:
    """``SLICE``, rounded up to multiples."""
    return tuple(-(-side // multiple) * multiple for side in SLICE)


def main() -> None:
    """Print what the registry has to say."""
    for name in SYSTEMS:
        parameters, gflop = figures(name)
        print(f"{name:<20} parameters={parameters}, gflop={gflop:.4g}")


if __name__ == "__main__":
    main()
