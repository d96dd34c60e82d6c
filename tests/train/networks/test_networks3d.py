"""The 3D networks: one contract for all, SAFNet's switches and sizes, and what its parts do."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.train.networks.aspp3d import ASPP3d
from verdiff.train.networks.attention3d import ChannelAttention, PositionAttention
from verdiff.train.networks.blocks3d import convolution, dilated, resize_within_slices
from verdiff.train.networks.cfnet3d import CFNet3d, CFNet3dConfig, FocalBlock
from verdiff.train.networks.deeplabv3_3d import DeepLab3d, DeepLab3dConfig
from verdiff.train.networks.model import SegmentationModel
from verdiff.train.networks.resunet3d import ResUNet3d, ResUNet3dConfig
from verdiff.train.networks.safnet import MultiscaleFusion, SAFNet, SAFNetConfig
from verdiff.train.networks.unet3d import UNet3d, UNet3dConfig

pytest.importorskip("monai")

PATCH = (6, 32, 16)
CLASSES = 2
SMALL: dict[str, tuple[Any, Any]] = {
    "safnet": (SAFNet, SAFNetConfig(PATCH, stem=(8, 8), width=16, norm="group")),
    "unet3d": (UNet3d, UNet3dConfig(PATCH, (8, 8, 16), (1, 2))),
    "resunet3d": (ResUNet3d, ResUNet3dConfig(PATCH, (8, 8, 16), (2, 1))),
    "deeplabv3-3d": (DeepLab3d, DeepLab3dConfig(PATCH, (8, 8, 16, 16), 1, 16, detail=8)),
    "deeplabv3-3d, no decoder": (DeepLab3d, DeepLab3dConfig(PATCH, (8, 8, 16, 16), 1, 16, decoder=False)),
    "cfnet3d": (CFNet3d, CFNet3dConfig(PATCH, 8, (8, 8, 16), 2, (1, 1, 1), 2)),
}


@functools.cache
def built(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    kind, config = SMALL[name]
    net: SegmentationModel = kind(CLASSES, config)
    return net


@pytest.fixture(params=SMALL)
def net(request: pytest.FixtureRequest) -> SegmentationModel:
    """Every 3D system in a small size, with weights that no test may change."""
    return built(request.param)


def window(batch: int = 2, patch: tuple[int, int, int] = PATCH) -> Tensor:
    return torch.rand(batch, 1, *patch, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_3d_system_is_a_prior_of_the_windows_size_and_nothing_else(net: SegmentationModel) -> None:
    with torch.no_grad():
        output = net.eval().prior(window(1))
    assert output.logits.shape == (1, CLASSES, *PATCH)
    assert (output.features, output.auxiliary, net.denoiser, net.config.features) == ((), (), None, {})
    assert all(length % stride == 0 for length, stride in zip(PATCH, net.config.strides, strict=True))


def test_a_windows_answer_depends_on_no_other_window_and_not_on_whether_it_is_training(net: SegmentationModel) -> None:
    with torch.no_grad():
        together = net.train().prior(window()).logits
        alone = net.eval().prior(window()[1:]).logits
    assert torch.allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient_and_a_few_steps_learn_two_blocks_in_depth(name: str) -> None:
    torch.manual_seed(0)
    kind, config = SMALL[name]
    net = kind(CLASSES, config).train()
    truth = torch.zeros(1, CLASSES, *PATCH)
    # One above the other in the stack: what tells them apart lies across the slices, and in what the image shows.
    truth[:, 0, :3, 8:24, 4:12] = 1
    truth[:, 1, 3:, 8:24, 4:12] = 1
    image = truth[:, :1] - 0.5 * truth[:, 1:] - 0.5
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses, moved = [], set()
    for _ in range(20):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(net.prior(image).logits, truth)
        loss.backward()
        # Attention starts without a say: what is behind it moves once it has one.
        moved |= {key for key, p in net.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        optimizer.step()
        losses.append(float(loss.detach()))
    assert moved == {key for key, _ in net.named_parameters()}
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("switch", ["aspp", "fusion", "attention"])
def test_each_switch_of_the_ablation_takes_away_its_own_part_and_no_other(switch: str) -> None:
    whole = SMALL["safnet"][1]
    without = SAFNet(CLASSES, dataclasses.replace(whole, **{switch: False}))
    gone = set(built("safnet").state_dict()) - set(without.state_dict())
    prefixes = {"aspp": {"aspp"}, "fusion": {"fuse_low", "fuse_mid"}, "attention": {"attention"}}
    assert {name.split(".")[1] for name in gone} == prefixes[switch]
    assert set(without.state_dict()) < set(built("safnet").state_dict())
    with torch.no_grad():
        assert without.eval().prior(window(1)).logits.shape == (1, CLASSES, *PATCH)


def test_the_base_of_the_ablation_has_none_of_the_three() -> None:
    base = SAFNet(CLASSES, dataclasses.replace(SMALL["safnet"][1], aspp=False, fusion=False, attention=False))
    assert {name.split(".")[1] for name, _ in base.named_parameters()} == {"features", "join", "head"}
    kinds = {type(module) for module in base.modules()}
    assert not kinds & {ASPP3d, MultiscaleFusion, PositionAttention, ChannelAttention}


def test_safnet_has_the_papers_sizes_by_default() -> None:
    config = SAFNetConfig()
    with FakeTensorMode(), torch.no_grad():
        net = SAFNet(17, config).eval()
        maps = net.prior.features(torch.zeros(1, 1, *config.patch))
        logits = net.prior(torch.zeros(1, 1, *config.patch)).logits
    assert [tuple(x.shape[1:]) for x in maps] == [(128, 18, 64, 32), (128, 18, 32, 16), (128, 18, 16, 8)]
    assert logits.shape == (1, 17, 18, 256, 128)
    assert any(isinstance(module, nn.BatchNorm3d) for module in net.modules())


def test_the_high_level_map_of_safnet_gates_the_channels_of_the_others() -> None:
    net = SAFNet(CLASSES, SMALL["safnet"][1]).eval()
    seen: list[Tensor] = []
    net.prior.join.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        low, mid, high = net.prior.features(window(1))
        high = net.prior.attention(net.prior.aspp(high))
        gate = torch.sigmoid(high.mean(dim=(2, 3, 4), keepdim=True))
        net.prior(window(1))
        rows, cols = PATCH[1] // 4, PATCH[2] // 4
        wanted = (
            gate * net.prior.fuse_low(low),
            resize_within_slices(gate * net.prior.fuse_mid(mid), rows, cols),
            resize_within_slices(high, rows, cols),
        )
    assert torch.allclose(seen[0], torch.cat(wanted, dim=1), atol=1e-6)


@pytest.mark.parametrize("size", [(18, 16, 8), (5, 7, 13), (3, 3, 3)])
@pytest.mark.parametrize("rate", [1, 2, 6, 12, 18])
def test_taps_that_reach_nothing_are_left_out_without_changing_the_result(
    size: tuple[int, int, int], rate: int
) -> None:
    torch.manual_seed(0)
    small = dilated(2, 3, rate, size)
    full = nn.Conv3d(2, 3, 3, dilation=rate, padding=rate)
    kept = tuple(slice(None) if rate < length else slice(1, 2) for length in size)
    with torch.no_grad():
        small.weight.copy_(full.weight[:, :, *kept])
        assert small.bias is not None and full.bias is not None
        small.bias.copy_(full.bias)
        x = torch.randn(1, 2, *size)
        assert torch.allclose(small(x), full(x), atol=1e-5)
    assert small.weight[0, 0].numel() == 3 ** sum(rate < length for length in size)


def test_the_rates_of_safnets_pyramid_reach_as_far_as_its_docstring_says() -> None:
    pyramid = ASPP3d(4, 4, (18, 16, 8), "batch")
    kernels = [branch[0].kernel_size for branch in pyramid.branches]  # type: ignore[index]
    assert kernels == [(1, 1, 1), (3, 3, 3), (3, 3, 1), (1, 1, 1)]


@pytest.mark.parametrize("attention", [PositionAttention(8), ChannelAttention()])
def test_attention_starts_as_the_identity_and_knows_no_order_of_positions(attention: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 4, 5)
    with torch.no_grad():
        assert torch.equal(attention(x), x)
        attention.weight.fill_(0.7)  # type: ignore[operator, union-attr]
        moved = attention(x)
        order = torch.randperm(60)
        shuffled = attention(x.flatten(2)[..., order].reshape(x.shape))
    assert not torch.allclose(moved, x, atol=1e-2)
    assert torch.allclose(shuffled.flatten(2), moved.flatten(2)[..., order], atol=1e-5)


def test_position_attention_is_a_weighted_mean_over_all_positions() -> None:
    torch.manual_seed(0)
    attention, x = PositionAttention(8), torch.randn(1, 8, 2, 2, 3)
    with torch.no_grad():
        attention.weight.fill_(1.0)
        query, key, value = (layer(x).flatten(2)[0] for layer in (attention.query, attention.key, attention.value))
        out = (attention(x) - x).flatten(2)[0]
        for position in range(12):
            weights = torch.softmax(query[:, position] @ key, dim=0)
            assert torch.allclose(out[:, position], value @ weights, atol=1e-5)


def test_the_multiscale_branches_see_as_far_as_their_rates() -> None:
    fusion = MultiscaleFusion(16, (40, 1, 1), "group").eval()
    reach = []
    for index in range(4):
        probe = torch.zeros(1, 4, 40, 1, 1, requires_grad=True)
        fusion.far[index][0](probe)[0, 0, 20, 0, 0].backward()
        assert probe.grad is not None
        reach.append(torch.nonzero(probe.grad[0].abs().sum(dim=(0, 2, 3)))[:, 0].tolist())
    assert reach == [[20 - rate, 20, 20 + rate] for rate in (2, 4, 8, 16)]


def test_resizing_within_slices_mixes_no_slices() -> None:
    x = torch.randn(1, 2, 3, 4, 5)
    other = x.clone()
    other[:, :, 1] += 1
    change = (resize_within_slices(other, 8, 10) - resize_within_slices(x, 8, 10)).abs().amax(dim=(0, 1, 3, 4))
    assert change[1] > 0.5 and change[0] == 0 and change[2] == 0
    volume = functional.interpolate(x, (3, 8, 10), mode="trilinear", align_corners=False)
    assert torch.allclose(resize_within_slices(x, 8, 10), volume, atol=1e-6)


def test_convolutions_keep_every_slice() -> None:
    assert convolution(1, 1, stride=2)(torch.zeros(1, 1, 5, 8, 8)).shape == (1, 1, 5, 4, 4)


def test_the_dilated_layer_of_a_focal_block_stays_in_float32_under_autocast() -> None:
    block, seen = FocalBlock(4, 2), []
    block.far.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0].dtype, output.dtype]))
    block.near.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        block(torch.randn(1, 4, 2, 8, 8))
    assert seen == [torch.bfloat16, torch.float32, torch.float32]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SAFNetConfig((18, 250, 128)), "patch"),
        (lambda: SAFNetConfig((0, 256, 128)), "patch"),
        (lambda: SAFNetConfig(width=20), "width = 20"),
        (lambda: SAFNetConfig(stem=(8,)), "stem"),
        (lambda: SAFNetConfig(norm="layer"), "'layer'"),
        (lambda: UNet3dConfig(PATCH, (8, 8, 16), (1,)), "depth_strides"),
        (lambda: UNet3dConfig((5, 32, 16), (8, 8, 16), (1, 2)), "patch"),
        (lambda: UNet3dConfig(PATCH, (8, 8, 16), (1, 3)), "depth_strides"),
        (lambda: DeepLab3dConfig(widths=(8, 16, 32)), "widths"),
        (lambda: CFNet3dConfig(stages=0), "stages = 0"),
    ],
)
def test_settings_that_make_no_network_are_refused_by_name(make: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        make()


class Unusual(nn.Module):
    """What an exporter may get wrong in the 3D networks: attention, uneven kernels, pooling, resizing of planes."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = ASPP3d(1, 8, (6, 8, 4), "group", (4, 5))
        self.attention = nn.Sequential(PositionAttention(8), ChannelAttention())
        for module in self.attention:
            nn.init.constant_(module.weight, 0.5)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        return resize_within_slices(self.attention(self.pyramid(image)), 16, 8)


def test_what_is_unusual_in_them_exports_and_onnx_runtime_agrees_with_pytorch() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from verdiff.export.torch_graphs import export_graph

    torch.manual_seed(0)
    module = Unusual().eval()
    model = export_graph(module, (torch.zeros(2, 1, 6, 8, 4),), ["image"], ["maps"], ({0: "N"},))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = window(3, (6, 8, 4))
    with torch.no_grad():
        wanted = module(image).numpy()
    assert np.abs(session.run(["maps"], {"image": image.numpy()})[0] - wanted).max() < 1e-4
