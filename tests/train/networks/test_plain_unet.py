"""The plain U-Net: its heads, its norm, and the image's share of a convolution."""

from __future__ import annotations

import torch
from torch import nn

from verdiff.train.networks.plain_unet import DoubleConv, InstanceNorm, PlainUNet


def test_heads_at_lower_resolutions_answer_in_training_alone_the_finest_first() -> None:
    net, image = PlainUNet(2, (4, 4, 6, 6, 8)), torch.randn(1, 1, 32, 48)
    training = net(image)
    assert training.logits.shape == (1, 2, 32, 48)
    assert [tuple(logits.shape[2:]) for logits in training.auxiliary] == [(16, 24), (8, 12)]
    answer = net.eval()(image)
    assert answer.auxiliary == () and torch.equal(answer.logits, training.logits)


def test_a_unet_of_two_levels_has_its_answer_alone() -> None:
    assert PlainUNet(1, (4, 8))(torch.randn(1, 1, 4, 4)).auxiliary == ()


def test_instance_norm_is_torchs_and_is_defined_on_one_pixel() -> None:
    ours, theirs = InstanceNorm(3), nn.InstanceNorm2d(3, affine=True)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        ours.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 3, 5, 4)
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        # Without spread, what is left of the value is rounding over the square root of eps.
        assert torch.allclose(ours(torch.randn(1, 3, 1, 1)).flatten(), ours.bias, atol=1e-3)


def test_instance_norm_in_channels_last_has_the_gradients_of_the_other_layout() -> None:
    norm, x, back = InstanceNorm(3), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        norm.zero_grad()
        given = x.clone(memory_format=layout).requires_grad_()
        out = norm(given)
        assert out.is_contiguous(memory_format=layout), "convolutions go on in the layout that they began with"
        out.backward(back)
        found = (out, given.grad, norm.weight.grad, norm.bias.grad)
        gradients.append([each.detach().clone() for each in found if each is not None])
    assert len(gradients[0]) == 4
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_a_share_is_what_concatenated_channels_would_have_given() -> None:
    block, whole = DoubleConv(2, 4, 0.1, embedding=3), DoubleConv(3, 4, 0.1, embedding=3)
    share = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    weights = block.state_dict()
    weights["conv1.weight"] = torch.cat([share.weight, block.conv1.weight], dim=1).detach()
    whole.load_state_dict(weights)
    image, x, embedding = torch.randn(2, 1, 8, 8), torch.randn(2, 2, 8, 8), torch.randn(2, 3)
    with torch.no_grad():
        expected = whole(torch.cat([image, x], dim=1), embedding)
        assert torch.allclose(block(x, embedding, share(image)), expected, atol=1e-5)
