"""The systems that can be trained: one registry, read without loading any of them.

Figures are of the shipped configuration with three structures, on one slice of 320 x 256 pixels (2D) or one window of
the network's own size (3D).
"""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.errors import DataError


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        name: What configurations call it.
        title: What its authors call it.
        paper: Where it is described.
        dimensions: 2: slice by slice; 3: in windows of a volume.
        diffusion: Whether a denoiser refines the prior's answer; else one pass is the answer.
        labels: What its paper segments.
        source: Whose code the network is made of.
        parameters: In all its networks.
        gflop: Of one pass of each of its networks, in 10^9 operations; a multiplication and its addition are two.
        module: Of ``verdiff.train.networks``, where the network is.
        network: Its class there, a ``SegmentationModel``.
        config: The class of its ``[network]`` table there.
    """

    name: str
    title: str
    paper: str
    dimensions: int
    diffusion: bool
    labels: str
    source: str
    parameters: int
    gflop: float
    module: str
    network: str
    config: str


_ALL = (
    System(
        "verdiff-net",
        title="Verdiff-Net",
        paper="Verdiff-Net",
        dimensions=2,
        diffusion=True,
        labels="one or several",
        source="verdiff",
        parameters=0,
        gflop=0.0,
        module="verdiff_net",
        network="VerdiffNet",
        config="NetworkConfig",
    ),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _ALL}


def system_named(name: str) -> System:
    """The system of that name.

    Raises:
        DataError: There is none.
    """
    if name not in SYSTEMS:
        raise DataError(f"the system {name!r}", f"one of {', '.join(SYSTEMS)}", "correct its spelling")
    return SYSTEMS[name]
