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
        parameters: Parameters of all its networks.
        gflop: Operations of one pass of each of its networks, in 10^9; a multiplication and its addition are two.
        module: Module of ``verdiff.train.networks`` that holds the network.
        network: Its class there, a ``SegmentationModel``.
        config: The class of its ``[network]`` table there.
        configuration: The shipped training configuration that the figures are of.
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
    configuration: str


_ALL = (
    System(
        "verdiff-net",
        title="Verdiff-Net",
        paper="Verdiff-Net",
        dimensions=2,
        diffusion=True,
        labels="one or several",
        source="verdiff",
        parameters=3_376_462,
        gflop=14.26,
        module="verdiff_net",
        network="VerdiffNet",
        config="NetworkConfig",
        configuration="spine-mr",
    ),
    System(
        "spinesegdiff",
        title="SpineSegDiff",
        paper="arXiv 2411.10755",
        dimensions=2,
        diffusion=True,
        labels="several",
        source="verdiff",
        parameters=2_157_596,
        gflop=11.31,
        module="spinesegdiff",
        network="SpineSegDiff",
        config="SpineSegDiffConfig",
        configuration="spinesegdiff",
    ),
    System(
        "medsegdiff",
        title="MedSegDiff",
        paper="Wu et al. 2022, arXiv 2211.00611",
        dimensions=2,
        diffusion=True,
        labels="one",
        source="verdiff",
        parameters=4_088_758,
        gflop=17.63,
        module="medsegdiff",
        network="MedSegDiff",
        config="MedSegDiffConfig",
        configuration="medsegdiff",
    ),
    System(
        "unet",
        title="U-Net",
        paper="Ronneberger et al. 2015",
        dimensions=2,
        diffusion=False,
        labels="one",
        source="MONAI",
        parameters=7_782_915,
        gflop=31.94,
        module="unet",
        network="UNet",
        config="UNetConfig",
        configuration="unet",
    ),
    System(
        "fcn",
        title="FCN",
        paper="Long et al. 2015",
        dimensions=2,
        diffusion=False,
        labels="one",
        source="transformers (ResNet), verdiff (head)",
        parameters=23_512_617,
        gflop=13.1,
        module="fcn",
        network="FCN",
        config="FCNConfig",
        configuration="fcn",
    ),
    System(
        "deeplabv3",
        title="DeepLabv3",
        paper="Chen et al. 2017, arXiv 1706.05587",
        dimensions=2,
        diffusion=False,
        labels="one",
        source="transformers (ResNet), verdiff (head)",
        parameters=39_037_379,
        gflop=29.62,
        module="deeplabv3",
        network="DeepLabV3",
        config="DeepLabV3Config",
        configuration="deeplabv3",
    ),
    System(
        "nnunet",
        title="nnU-Net",
        paper="Isensee et al. 2021",
        dimensions=2,
        diffusion=False,
        labels="several",
        source="MONAI",
        parameters=33_463_247,
        gflop=36.91,
        module="nnunet",
        network="NnUNet",
        config="NnUNetConfig",
        configuration="nnunet",
    ),
    System(
        "swin-unet",
        title="Swin-Unet",
        paper="Cao et al. 2021, arXiv 2105.05537",
        dimensions=2,
        diffusion=False,
        labels="several",
        source="transformers, verdiff (decoder)",
        parameters=27_165_252,
        gflop=12.14,
        module="swin_unet",
        network="SwinUNet",
        config="SwinUNetConfig",
        configuration="swin-unet",
    ),
    System(
        "sam",
        title="SAM",
        paper="Kirillov et al. 2023, arXiv 2304.02643",
        dimensions=2,
        diffusion=False,
        labels="one",
        source="transformers, verdiff (head)",
        parameters=6_362_371,
        gflop=17.52,
        module="sam",
        network="Sam",
        config="SamConfig",
        configuration="sam",
    ),
    System(
        "safnet",
        title="SAFNet",
        paper="Yilizati-Yilihamu et al. 2023",
        dimensions=3,
        diffusion=False,
        labels="each vertebra and disc",
        source="verdiff",
        parameters=1_507_285,
        gflop=52.55,
        module="safnet",
        network="SAFNet",
        config="SAFNetConfig",
        configuration="safnet",
    ),
    System(
        "unet3d",
        title="3D U-Net",
        paper="Cicek et al. 2016, arXiv 1606.06650",
        dimensions=3,
        diffusion=False,
        labels="each vertebra and disc",
        source="MONAI",
        parameters=1_395_939,
        gflop=54.68,
        module="unet3d",
        network="UNet3d",
        config="UNet3dConfig",
        configuration="unet3d",
    ),
    System(
        "resunet3d",
        title="3D ResUNet",
        paper="Xiao et al. 2018",
        dimensions=3,
        diffusion=False,
        labels="each vertebra and disc",
        source="MONAI",
        parameters=3_218_970,
        gflop=23.71,
        module="resunet3d",
        network="ResUNet3d",
        config="ResUNet3dConfig",
        configuration="resunet3d",
    ),
    System(
        "deeplabv3-3d",
        title="3D DeepLabv3+",
        paper="Chen et al. 2018, arXiv 1802.02611",
        dimensions=3,
        diffusion=False,
        labels="each vertebra and disc",
        source="verdiff",
        parameters=2_742_915,
        gflop=34.9,
        module="deeplabv3_3d",
        network="DeepLab3d",
        config="DeepLab3dConfig",
        configuration="deeplabv3-3d",
    ),
    System(
        "cfnet3d",
        title="CFNet",
        paper="Zhang et al. 2023, arXiv 2302.06052",
        dimensions=3,
        diffusion=False,
        labels="each vertebra and disc",
        source="verdiff",
        parameters=844_083,
        gflop=12.3,
        module="cfnet3d",
        network="CFNet3d",
        config="CFNet3dConfig",
        configuration="cfnet3d",
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
