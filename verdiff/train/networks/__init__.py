"""The networks of Verdiff-Net: the prior U-Net with MSFM and the denoiser U-Net with NSA."""

from __future__ import annotations

from verdiff.train.networks.denoiser import Denoiser
from verdiff.train.networks.prior import PriorNet, PriorOutput
from verdiff.train.networks.verdiff_net import NetworkConfig, VerdiffNet

__all__ = ["Denoiser", "NetworkConfig", "PriorNet", "PriorOutput", "VerdiffNet"]
