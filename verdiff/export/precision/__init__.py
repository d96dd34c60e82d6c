"""Reduced precision that is verified: conversion, execution as hardware does it, the gate, the search for islands.

Needs onnx and ONNX Runtime, never torch.
"""

from verdiff.export.precision.half import HalfNetwork, to_half
from verdiff.export.precision.islands import required_islands

__all__ = ["HalfNetwork", "required_islands", "to_half"]
