"""The two-dimensional comparators: one contract for all, and what is particular to each."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.export.torch_graphs import PriorGraph, export_graph
from verdiff.train.networks.comparator import AtFixedSize, Comparator
from verdiff.train.networks.deeplabv3 import DeepLabV3, DeepLabV3Config
from verdiff.train.networks.fcn import FCN, FCNConfig
from verdiff.train.networks.nnunet import NnUNet, NnUNetConfig
from verdiff.train.networks.resnet import ResNet
from verdiff.train.networks.sam import Sam, SamConfig
from verdiff.train.networks.swin_unet import PatchExpanding, SwinUNet, SwinUNetConfig
from verdiff.train.networks.unet import UNet, UNetConfig

pytest.importorskip("monai")
pytest.importorskip("transformers")

SMALL: dict[str, tuple[Any, Any]] = {
    "unet": (UNet, UNetConfig((8, 8, 8, 8, 8))),
    "fcn": (FCN, FCNConfig("resnet18")),
    "deeplabv3": (DeepLabV3, DeepLabV3Config("resnet18", width=16)),
    "nnunet": (NnUNet, NnUNetConfig(widths=(8, 8, 8, 8, 8), pools=(4, 3))),
    "swin-unet": (SwinUNet, SwinUNetConfig((32, 32), 12, (2, 2), (1, 2), 4)),
    "sam": (Sam, SamConfig(64, 24, 2, 2, 2, (1,), 16)),
}
CLASSES = 2


@functools.cache
def _built(name: str) -> Comparator:
    torch.manual_seed(0)
    kind, config = SMALL[name]
    net: Comparator = kind(CLASSES, config)
    return net


@pytest.fixture(params=SMALL)
def net(request: pytest.FixtureRequest) -> Comparator:
    """Every comparator in a small size, with weights that no test may change."""
    return _built(request.param)


def _image(net: Comparator, batch: int = 2, rows: int = 3, cols: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 1, rows * net.config.multiple, cols * net.config.multiple, generator=generator) * 2 - 1


def test_a_comparator_is_a_prior_of_the_images_size_and_nothing_else(net: Comparator) -> None:
    image = _image(net, batch=1)
    with torch.no_grad():
        output = net.eval().prior(image)
    assert output.logits.shape == (1, CLASSES, *image.shape[2:])
    assert (output.features, output.auxiliary, net.denoiser, net.config.features) == ((), (), None, {})


def test_a_slices_answer_depends_on_no_other_slice_and_not_on_whether_it_is_training(net: Comparator) -> None:
    """Neither batch norm nor dropout is left in any of them: a batch of one trains what is later used."""
    image = _image(net, rows=2)
    with torch.no_grad():
        together = net.train().prior(image).logits
        alone = net.eval().prior(image[1:]).logits
    assert torch.allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient_and_the_loss_falls(name: str) -> None:
    torch.manual_seed(0)
    kind, config = SMALL[name]
    net = kind(CLASSES, config).train()
    truth = torch.zeros(1, CLASSES, 2 * config.multiple, 2 * config.multiple)
    side = config.multiple
    truth[:, 0, side // 2 : side * 3 // 2, side // 2 : side * 3 // 2] = 1
    truth[:, 1] = 1 - truth[:, 0]
    image = truth[:, :1] + 0.1 * torch.randn_like(truth[:, :1])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses, moved = [], set()
    for _ in range(8):
        optimizer.zero_grad()
        output = net.prior(image)
        loss = functional.binary_cross_entropy_with_logits(output.logits, truth)
        for logits in output.auxiliary:
            wanted = functional.interpolate(truth, logits.shape[2:])
            loss = loss + functional.binary_cross_entropy_with_logits(logits, wanted)
        loss.backward()
        moved |= {key for key, p in net.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        optimizer.step()
        losses.append(loss.item())
    assert {key for key, _ in net.named_parameters()} - moved == set()
    assert min(losses) < 0.95 * losses[0]


def test_a_network_of_one_fixed_size_is_exported_for_every_size_and_agrees_with_its_graph() -> None:
    """The graph with most to go wrong: resizing by the input's own size, windows counted by a batch that varies."""
    onnxruntime = pytest.importorskip("onnxruntime")
    module = PriorGraph(_built("swin-unet")).eval()
    axes = {0: "N", 2: 16 * Dim("rows", min=1, max=64), 3: 16 * Dim("cols", min=1, max=64)}
    model = export_graph(module, (torch.zeros(2, 1, 64, 48),), ["image"], ["prior"], (axes,))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, rows, cols in ((1, 32, 48), (3, 80, 32)):
        image = torch.rand(batch, 1, rows, cols) * 2 - 1
        with torch.no_grad():
            (expected,) = module(image)
        (found,) = session.run(None, {"image": image.numpy()})
        assert np.abs(found - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize(("output_stride", "strides"), [(32, [4, 8, 16, 32]), (16, [4, 8, 16, 16]), (8, [4, 8, 8, 8])])
def test_beyond_the_output_stride_a_resnet_trades_stride_for_dilation(output_stride: int, strides: list[int]) -> None:
    backbone = ResNet("resnet18", output_stride, (1, 2))
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 1, 64, 96))
    assert [64 // m.shape[2] for m in maps] == [96 // m.shape[3] for m in maps] == strides
    dilations = [
        {part.dilation[0] for part in block.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)}
        for block in backbone.stages[-1].layers
    ]
    unit = 32 // output_stride
    assert dilations == [{unit}, {2 * unit}]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())


def test_fcn_starts_from_its_coarsest_scores_upsampled_bilinearly() -> None:
    torch.manual_seed(0)
    scores = FCN(CLASSES, FCNConfig("resnet18")).prior.network
    x = torch.randn(1, CLASSES, 5, 6)
    with torch.no_grad():
        up = scores.up32(x)
        image = torch.randn(1, 1, 128, 128)
        coarse = scores.score32(scores.backbone(image)[-1])
        expected = functional.interpolate(scores.up16(scores.up32(coarse)), scale_factor=8.0, mode="bilinear")
        bias = (scores.score16.bias, scores.score8.bias)
        for parameter in bias:
            parameter.zero_()
        found = scores(image)
    linear = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert torch.allclose(up[..., 1:-1, 1:-1], linear[..., 1:-1, 1:-1], atol=1e-6)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("stride", "rates"), [(16, [1, 6, 12, 18]), (8, [1, 12, 24, 36])])
def test_deeplabs_pyramid_doubles_its_rates_where_the_map_is_twice_as_fine(stride: int, rates: list[int]) -> None:
    net = DeepLabV3(1, DeepLabV3Config("resnet18", output_stride=stride, width=8))
    assert [branch[0].dilation[0] for branch in net.prior.network.branches] == rates


def test_nnunet_is_dynunet_with_deep_supervision_at_each_levels_own_size() -> None:
    from monai.networks.nets.dynunet import DynUNet

    widths, strides = [8, 8, 16, 16, 16], [(1, 1), (2, 2), (2, 2), (2, 2), (2, 1)]
    torch.manual_seed(3)
    ours = NnUNet(CLASSES, NnUNetConfig(widths=tuple(widths), pools=(4, 3)))
    torch.manual_seed(3)
    theirs = DynUNet(
        2, 1, CLASSES, [3] * 5, strides, strides[1:], filters=widths, deep_supervision=True, deep_supr_num=2
    )
    image = torch.randn(2, 1, 64, 48)
    with torch.no_grad():
        output, stacked = ours.train().prior(image), theirs.train()(image)
    assert torch.equal(output.logits, stacked[:, 0])
    # Strides 2 and 4; stride 8, the coarsest of the decoder, has no loss.
    assert [tuple(logits.shape) for logits in output.auxiliary] == [(2, CLASSES, 32, 24), (2, CLASSES, 16, 12)]
    for logits, head in zip(output.auxiliary, theirs.heads, strict=True):
        assert torch.equal(logits, head)


def test_patch_expanding_puts_a_tokens_children_where_the_token_was() -> None:
    torch.manual_seed(0)
    rows, cols = 3, 5
    tokens = torch.zeros(1, rows * cols, 8)
    tokens[0, 1 * cols + 2] = torch.randn(8)
    with torch.no_grad():
        children = PatchExpanding(8, 2)(tokens, (rows, cols)).reshape(2 * rows, 2 * cols, 4)
    assert torch.nonzero(children.abs().sum(dim=2)).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_sams_encoder_starts_from_weights_that_can_learn() -> None:
    """The library's default standard deviation, 1e-10, is for weights that are about to be loaded."""
    layer = _built("sam").prior.network.network.layers[0]
    assert layer.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_fixed_size_stretches_the_image_there_and_back_without_shifting_it() -> None:
    ramp = torch.linspace(-1, 1, 96)[None, None, :, None].expand(1, 1, 96, 40)
    wrapped = AtFixedSize(nn.Identity(), (64, 64))
    assert torch.allclose(wrapped(ramp)[:, :, 2:-2], ramp[:, :, 2:-2], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UNetConfig((8, 16)), "2 levels"),
        (lambda: FCNConfig("vgg16"), "resnet18, resnet34, resnet50, resnet101"),
        (lambda: DeepLabV3Config(backbone="vgg16"), "vgg16"),
        (lambda: DeepLabV3Config(output_stride=32), "one of 8, 16"),
        (lambda: NnUNetConfig(widths=(8, 8, 8), pools=(2, 2)), "4 levels"),
        (lambda: NnUNetConfig(widths=(8,) * 6, pools=(4, 4)), "one level more"),
        (lambda: SwinUNetConfig(size=(224, 200)), "multiples of 224"),
        (lambda: SwinUNetConfig(heads=(5, 6, 12, 24)), "heads that divide"),
        (lambda: SwinUNetConfig(heads=(3, 6, 12)), "as many heads"),
        (lambda: SamConfig(size=500), "multiple of 16"),
        (lambda: SamConfig(depth=6), "0 to 5"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused_with_what_would_be_right(make: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        make()
