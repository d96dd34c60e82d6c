"""The ResNet under FCN and DeepLabv3: transformers' ResNet, group norm, and strides that may become dilation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from verdiff.train.networks.blocks import group_norm

# Layer type, widths and depths of the stages at strides 4, 8, 16, 32: He et al., CVPR 2016, Table 1.
BACKBONES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "resnet18": ("basic", (64, 128, 256, 512), (2, 2, 2, 2)),
    "resnet34": ("basic", (64, 128, 256, 512), (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (256, 512, 1024, 2048), (3, 4, 23, 3)),
}


def widths_of(name: str) -> tuple[int, ...]:
    """Channels of a backbone's four stages."""
    return BACKBONES[name][1]


class ResNet(nn.Module):
    """Image [N, 1, H, W] -> the maps of the four stages, [N, C_i, H / stride_i, W / stride_i].

    Strides are 4, 8, 16 and 32, and at most ``output_stride``: beyond it a stage keeps its resolution and its 3 x 3
    convolutions are dilated by what the stride would have been (DeepLabv3, section 3.1 and Figure 3).

    Random weights, one grey channel. transformers' ResNet has batch norm, which at the batch size of 1 that Verdiff-Net
    trains with normalises by one image in training and by running averages afterwards; group norm stands in its place.

    Args:
        name: A key of :data:`BACKBONES`.
        output_stride: 8, 16 or 32.
        multi_grid: Factors on the dilation of the last stage's blocks, in order; where the stage has more blocks, the
            factors begin again (DeepLabv3, section 3.2.1).

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    def __init__(self, name: str, output_stride: int = 32, multi_grid: tuple[int, ...] = (1,)) -> None:
        from transformers import ResNetConfig, ResNetModel

        super().__init__()
        layer_type, widths, depths = BACKBONES[name]
        config = ResNetConfig(num_channels=1, layer_type=layer_type, hidden_sizes=list(widths), depths=list(depths))
        model = ResNetModel(config)
        self.embedder, self.stages = model.embedder, model.encoder.stages
        stride, dilation = 4, 1
        for stage in list(self.stages)[1:]:
            if stride < output_stride:
                stride *= 2
            else:
                dilation *= 2
                _trade_stride_for_dilation(stage, dilation)
        blocks: Any = self.stages[-1].layers
        for index, block in enumerate(blocks):
            _dilate(block, dilation * multi_grid[index % len(multi_grid)])
        _replace_batch_norm(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        h = self.embedder(image)
        maps = []
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return tuple(maps)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _trade_stride_for_dilation(stage: Any, dilation: int) -> None:
    for convolution in _convolutions(stage):
        convolution.stride = (1, 1)
    _dilate(stage, dilation)


def _dilate(module: nn.Module, dilation: int) -> None:
    for convolution in _convolutions(module):
        if convolution.kernel_size == (3, 3):
            convolution.dilation, convolution.padding = (dilation, dilation), (dilation, dilation)


def _replace_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, group_norm(child.num_features))
        else:
            _replace_batch_norm(child)
