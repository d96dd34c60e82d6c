"""The gate set up on the small networks: FP32's answers for six patients, to judge candidates by."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from tests.export.precision.networks import manifest, networks, patients
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.gate import LIMITS, Gate, GateReport
from verdiff.export.precision.half import HalfNetwork, to_half
from verdiff.export.precision.judge import pass_gate
from verdiff.export.precision.networks import NetworkPair
from verdiff.precisions import MaskLimits

FP16 = LIMITS["fp16"]


def half(role: str, model: onnx.ModelProto, extra: Mapping[str, str]) -> HalfNetwork:
    return to_half(model, extra)


class Bench:
    """A source, FP32's answers for six patients and the ranges they reached; ``faults`` are the prior's."""

    def __init__(self, **faults: float) -> None:
        self.source = networks(**faults)
        self.ranges = {role: Ranges(model) for role, model in self.source.roles().items()}
        self.gate = Gate(self.source, manifest(), patients(), feeds=lambda role, feed: self.ranges[role].look(feed))

    def judge(self, graphs: NetworkPair, limits: MaskLimits = FP16) -> GateReport:
        return pass_gate(self.source, graphs, self.gate, self.ranges, limits, "fp16")
