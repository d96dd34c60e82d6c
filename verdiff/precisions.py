"""Every precision, once: what is stored of it, what runs it, its gate and tolerances, and the name its engines have.

A caller names a precision; a bundle's files and gates name a *form* of its graphs. INT8 has two forms, because
processors and TensorRT want it quantised in different ways (docs/precision.md); the others have one of their own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# What every other precision is made of and compared with.
REFERENCE = "fp32"


@dataclass(frozen=True)
class MaskLimits:
    """How far a mask may be from FP32's: Dice of each class, mean over patients and worst patient, and HD95 in mm."""

    mean_dice: float
    worst_dice: float
    hd95_mm: float


@dataclass(frozen=True)
class PipelineLimits:
    """How far the whole pipeline as one graph may be from the runtime's answer.

    Attributes:
        uncertainty: Largest difference. A pixel's uncertainty is steep where two structures are as likely.
        labels: Share of the pixels that must agree.
    """

    uncertainty: float
    labels: float


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        name: Name that callers use.
        on_processors: The form that a processor runs: OpenVINO computes the FP32 graphs in BF16 by itself.
        in_engines: The form that TensorRT's engines are built of, which is what their keys and files call it.
        backends: Backends that run it on a processor, the one that ``auto`` takes first.
        on_providers: Whether ONNX Runtime's GPU providers run it.
        weights: Type of most weights of an engine, in numpy's words.
        self_test: The largest difference of a network's output from the golden one that rounding explains: the mean of
            |difference| on [-1, 1], and the share of pixels for labels.
        tried_on: Each form that a conversion writes, and the backends whose own kernels its gate tries on a processor.
            OpenVINO gives wrong results for signed activations.
        gate: The record in a manifest by which ``auto`` may take it; empty where it needs none.
        limits: Limits of the gate; None for what the gate compares with.
        judged_as: What the gate computes in the place of hardware.
        calibrated: Whether a conversion wants slices to calibrate on, which no record keeps.
        pipeline: Limits of the pipeline graph; None where bundles hold none in it.
    """

    name: str
    on_processors: str
    in_engines: str
    backends: tuple[str, ...]
    on_providers: bool
    weights: str
    self_test: float
    tried_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gate: str = ""
    limits: MaskLimits | None = None
    judged_as: str = ""
    calibrated: bool = False
    pipeline: PipelineLimits | None = None


TABLE: dict[str, Precision] = {
    each.name: each
    for each in (
        Precision(
            name=REFERENCE,
            on_processors="fp32",
            in_engines="fp32",
            backends=("onnxruntime", "openvino"),
            on_providers=True,
            weights="float32",
            self_test=1e-3,
            pipeline=PipelineLimits(1e-3, 0.9999),
        ),
        Precision(
            name="fp16",
            on_processors="fp16",
            in_engines="fp16",
            backends=("onnxruntime", "openvino"),
            on_providers=True,
            weights="float16",
            self_test=1e-2,
            tried_on={"fp16": ("onnxruntime", "openvino")},
            gate="fp16",
            limits=MaskLimits(0.999, 0.998, 0.1),
            judged_as="FP16 storage and rounding of every value, sums in FP32",
            pipeline=PipelineLimits(5e-2, 0.999),
        ),
        Precision(
            name="bf16",
            on_processors=REFERENCE,
            in_engines="bf16",
            backends=("openvino",),
            on_providers=False,
            weights="bfloat16",
            self_test=3e-2,
            tried_on={"bf16": ("openvino",)},
            gate="bf16",
            limits=MaskLimits(0.995, 0.990, 0.3),
            judged_as="BF16 storage and rounding of every value, sums in FP32",
        ),
        Precision(
            name="int8",
            on_processors="int8-ov",
            in_engines="int8-trt",
            backends=("openvino", "onnxruntime"),
            on_providers=False,
            weights="int8",
            self_test=5e-2,
            tried_on={"int8-trt": ("onnxruntime",), "int8-ov": ("onnxruntime", "openvino")},
            gate="int8-ov",
            limits=MaskLimits(0.995, 0.990, 0.3),
            judged_as="INT8 steps of the convolutions' inputs and weights, everything else in FP32",
            calibrated=True,
        ),
    )
}
PRECISIONS = tuple(TABLE)
# What a conversion makes.
REDUCED = tuple(name for name in TABLE if name != REFERENCE)
ENGINE_PRECISIONS = tuple(each.in_engines for each in TABLE.values())


def precision_of(name: str) -> Precision:
    """The precision of that name, or of which this is a form's name: ``"int8-trt"`` is INT8's.

    Raises:
        KeyError: There is none.
    """
    if name in TABLE:
        return TABLE[name]
    return next((each for each in TABLE.values() if name in (*each.tried_on, each.in_engines)), None) or TABLE[name]


def engine_precision(asked: str) -> str:
    """The form that engines of a precision are built of; a form's own name, or one that is unknown, stays as it is."""
    return TABLE[asked].in_engines if asked in TABLE else asked


def makes_engines(name: str) -> bool:
    """Whether engines can be built in a precision or of a form: not of the one that is for processors."""
    return engine_precision(name) in ENGINE_PRECISIONS


def processor_precision(asked: str) -> str:
    """The form that a processor runs for a precision; a name that is none of a precision stays as it is."""
    return TABLE[asked].on_processors if asked in TABLE else asked
