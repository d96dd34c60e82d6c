"""SpineSegDiff and MedSegDiff: what they promise to training, sampling and export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

from verdiff.errors import DataError
from verdiff.export.torch_graphs import export_graph
from verdiff.train.networks.medsegdiff import DynamicFusion, MedSegDiff, MedSegDiffConfig, SelfAttention
from verdiff.train.networks.model import SegmentationModel
from verdiff.train.networks.spinesegdiff import SpineSegDiff, SpineSegDiffConfig

NETS: dict[str, Any] = {
    "spinesegdiff": (SpineSegDiff, SpineSegDiffConfig((4, 4, 6, 6, 8, 8), (4, 4, 6, 8, 8), 4, 16)),
    "medsegdiff": (MedSegDiff, MedSegDiffConfig((4, 4, 8, 8, 8), (1, 2, 1, 1), 2, 16)),
}


def build(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    kind, config = NETS[name]
    net: SegmentationModel = kind(2, config)
    # Layers that start at zero would hide what they are given.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_both_networks_keep_size_and_give_the_features_they_promise(name: str, batch: int) -> None:
    net = build(name)
    image = torch.randn(batch, 1, 2 * net.config.multiple, net.config.multiple)
    output = net.prior(image)
    assert output.logits.shape == (batch, 2, *image.shape[2:])
    assert [(f.shape[1], image.shape[2] // f.shape[2]) for f in output.features] == [
        (width, stride) for stride, width in sorted(net.config.features.items())
    ]
    raw = net(torch.randn_like(output.logits), torch.full((batch,), 7.0), output.logits.tanh(), output.features)
    assert raw.shape == output.logits.shape


def test_spinesegdiff_hands_over_five_levels_and_supervises_its_presegmentation_deeply() -> None:
    net = build("spinesegdiff")
    output = net.prior(torch.randn(1, 1, 64, 64))
    assert list(net.config.features) == [1, 2, 4, 8, 16] and net.config.multiple == 32
    assert [logits.shape[2] for logits in output.auxiliary] == [32, 16, 8]


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = build(name)
    output = net.prior(torch.randn(2, 1, 64, 64))
    prior = output.logits.detach().tanh()
    raw = net(torch.randn_like(prior), torch.tensor([3.0, 900.0]), prior, output.features)
    loss = raw.square().mean() + sum(logits.square().mean() for logits in (output.logits, *output.auxiliary))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NETS)
def test_the_denoiser_reacts_to_x_the_timestep_and_the_image(name: str) -> None:
    net = build(name).eval()
    with torch.no_grad():
        output, other = (net.prior(torch.randn(1, 1, 64, 64)) for _ in range(2))
        x, at = torch.randn(1, 2, 64, 64), torch.tensor([10.0])
        base = net(x, at, x, output.features)
        assert not torch.allclose(base, net(x.flip(2), at, x, output.features), atol=1e-3)
        assert not torch.allclose(base, net(x, at + 10, x, output.features), atol=1e-3)
        for index in range(len(output.features)):
            mixed = tuple(
                o if i == index else f for i, (f, o) in enumerate(zip(output.features, other.features, strict=True))
            )
            assert not torch.allclose(base, net(x, at, x, mixed), atol=1e-3), index


def test_the_fusion_exports_and_gives_what_torch_gives_at_sizes_it_was_not_traced_with() -> None:
    """The one part of the two systems whose operators no other network has."""
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    fusion = DynamicFusion(4).eval()
    with torch.no_grad():
        fusion.parser.real.normal_()
        fusion.parser.imaginary.normal_()
    axes = {0: "N", 2: 4 * Dim("rows", min=1, max=1024), 3: 4 * Dim("cols", min=1, max=1024)}
    traced = torch.zeros(2, 4, 16, 12), torch.zeros(2, 4, 16, 12)
    graph = export_graph(fusion, traced, ["m_image", "m_mask"], ["fused"], (axes, axes))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((1, 4, 4, 4), (3, 4, 20, 8), (1, 4, 8, 64)):
        image, mask = torch.randn(size), torch.randn(size)
        with torch.no_grad():
            expected = fusion(image, mask).numpy()
        found = session.run(None, {"m_image": image.numpy(), "m_mask": mask.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_dynamic_fusion_is_equation_5_with_the_mask_through_the_parser() -> None:
    torch.manual_seed(0)
    fusion, image, mask = DynamicFusion(3), torch.randn(1, 3, 6, 5), torch.randn(1, 3, 6, 5)
    with torch.no_grad():
        fusion.parser.real.normal_()

        def normed(x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()

        expected = normed(image) * normed(fusion.parser(mask)) * image
        assert torch.allclose(fusion(image, mask), expected, atol=1e-4)


def test_self_attention_is_torchs_multi_head_attention_beside_the_identity() -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        ours.out.weight.normal_()
        theirs.in_proj_weight.copy_(ours.project.weight[:, :, 0, 0])
        theirs.in_proj_bias.copy_(ours.project.bias)
        theirs.out_proj.weight.copy_(ours.out.weight[:, :, 0, 0])
        x = torch.randn(2, 8, 3, 4)
        tokens = ours.norm(x).flatten(2).transpose(1, 2)
        expected = x + theirs(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
        assert torch.allclose(ours(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpineSegDiffConfig(widths=(8, 8, 8)), "5 widths"),
        (lambda: SpineSegDiffConfig(presegmentation_widths=(8,)), "two presegmentation_widths"),
        (lambda: MedSegDiffConfig(widths=(8, 8, 8)), "5 widths and 4 blocks"),
        (lambda: MedSegDiffConfig(blocks=(1, 0, 1, 1)), "at least 1"),
        (lambda: MedSegDiffConfig(heads=3), "multiple of heads"),
    ],
)
def test_sizes_that_do_not_make_a_network_are_refused(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()
