"""The names a user may choose among, once: the command line refuses others while it parses, the rooms when called.

It imports next to nothing, so that a command's options cost no time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from verdiff.precisions import ENGINE_PRECISIONS as ENGINE_PRECISIONS
from verdiff.precisions import PRECISIONS as PRECISIONS

# Of a model. XR is a film.
MODALITIES = ("MR", "CT", "XR")
View: TypeAlias = Literal["sagittal", "coronal", "axial", "film"]
VIEWS: tuple[View, ...] = get_args(View)
StartName: TypeAlias = Literal["noise", "prior"]
STARTS: tuple[StartName, ...] = get_args(StartName)

# What the network's raw output stands for.
PREDICTIONS = ("x0", "epsilon", "v")

# Of a call.
SamplerName: TypeAlias = Literal["ddim", "ddpm", "dpmpp-2m"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
# STAPLE judges masks and not probabilities, so that no model has it for its default.
MODEL_FUSIONS = ("mean", "steps", "steps-published")
FUSIONS = (*MODEL_FUSIONS, "staple")
WHOLE = "whole"
POLICIES = ("locate", "skip", "agree")
# Names that a model's frontier may give a setting, usable as a policy.
SETTINGS = ("fast",)

# Of a backend. As a precision or a backend AUTO is what is best here, by trying or by what is installed.
AUTO = "auto"
BACKENDS = ("onnxruntime", "openvino")
ENGINE_BACKENDS = ("tensorrt", "tensorrt-rtx")
# ONNX Runtime with another provider than the CUDA one that plain ``onnxruntime`` takes on a GPU.
PROVIDER_BACKENDS = ("onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
# ONNX Runtime's WebGPU provider: its device is a GPU of any make, or a driver that computes on the processor.
WEBGPU = "webgpu"
WEBGPU_DEVICES = ("webgpu", "webgpu:software")
GPU = r"cuda(:\d+)?"
DEVICE = rf"cpu|{GPU}|{'|'.join(WEBGPU_DEVICES)}"
DEVICE_WORDS = "cpu, cuda, cuda:N, webgpu or webgpu:software"
# Where a Ray cluster is, and what its workers compute on: Ray says which GPU.
CLUSTER_DEVICES = ("cpu", "cuda")
CLUSTER = r"local|auto|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}"

# PS3.5, 6.2: an application entity's title has 16 characters at most, none of them a backslash or a control character.
AE_TITLE = r"(?! +$)[ -\[\]-~]{1,16}"
AE_TITLE_WORDS = "an AE title, 1 to 16 letters, digits, blanks or signs"
DICOM_NODE = rf"({AE_TITLE})@(\[[0-9A-Fa-f:]+\]|[^@:\s]+):(\d{{1,5}})"
DICOMWEB = r"https?://[^/?#]+\S*"

# Of an engine.
ENGINE_ROLES = ("prior", "step", "pipeline")
SIZE = r"\d{1,5}x\d{1,5}"
MODEL_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
DECIDED = r"[^=,]+=0?\.\d+(,[^=,]+=0?\.\d+)*"
SM = r"\d{2,3}"
VERSION = r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"

# Of a training run.
CONFIGURATIONS = (
    "cfnet3d",
    "deeplabv3",
    "deeplabv3-3d",
    "fcn",
    "medsegdiff",
    "nnunet",
    "resunet3d",
    "safnet",
    "sam",
    "spine-mr",
    "spinesegdiff",
    "spinesegdiff-paper",
    "swin-unet",
    "unet",
    "unet3d",
    "verdiff-net",
    "verdiff-net-paper",
)
OPTIMIZERS = ("adam", "adamw", "sgd")
DECAYS = ("none", "cosine", "poly", "plateau")
SETTING = r"\s*[\w-]+\.[\w-]+\s*=.*"

# Of a bundle that is pinned: the SHA-256 of its manifest.
SHA256 = r"[0-9a-fA-F]{64}"

# Of a DICOM segmentation object; the first is the default.
SEGMENTATION_TYPES = ("BINARY", "LABELMAP")
# What a DICOM node sends back; the first two by default.
DICOM_OBJECTS = ("seg", "rtstruct", "uncertainty")

# Of an evaluation and of a data set.
ON_EMPTY = ("strict", "leave-absent-out")
DATA_SETS = ("spider", "ctspine1k", "verse", "mrspineseg", "aasce")
DATA_LABELS = ("structures", "levels")
CONTRASTS = ("t1", "t2", "t2_SPACE")
BENCH_CASES = ("denoiser-step", "volume", "throughput", "deadline", "gpu", "startup")
# The options of which a case needs one.
BENCH_NEEDS = {"volume": ("scan",), "throughput": ("data", "scan"), "deadline": ("data",)}
