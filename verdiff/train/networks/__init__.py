"""The networks of every system, one module each, behind :class:`SegmentationModel`; and what they share."""

from __future__ import annotations

from verdiff.train.networks.denoiser import Denoiser
from verdiff.train.networks.model import NetworkSettings, PriorOutput, SegmentationModel
from verdiff.train.networks.prior import PriorNet
from verdiff.train.networks.verdiff_net import NetworkConfig, VerdiffNet

__all__ = ["Denoiser", "NetworkConfig", "NetworkSettings", "PriorNet", "PriorOutput", "SegmentationModel", "VerdiffNet"]
