"""The options of a model's loading and of a call, each listed once; see :mod:`verdiff.settings` for what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Generic, Never, TypeVar

from verdiff.choices import (
    AUTO,
    BACKENDS,
    CLUSTER,
    DECIDED,
    DEVICE,
    DEVICE_WORDS,
    ENGINE_BACKENDS,
    ENGINE_PRECISIONS,
    ENGINE_ROLES,
    FUSIONS,
    GPU,
    MODEL_FUSIONS,
    MODEL_NAME,
    POLICIES,
    PRECISIONS,
    PROVIDER_BACKENDS,
    SAMPLERS,
    SETTINGS,
    SHA256,
    SIZE,
    SM,
    STARTS,
    VERSION,
    WEBGPU,
    WHOLE,
)
from verdiff.settings import Bounds, OneOf, Pattern, Suffix, keyword, option, setting

ANY_BACKEND = (AUTO, *BACKENDS, *ENGINE_BACKENDS, *PROVIDER_BACKENDS, WEBGPU)
# TensorRT's engines take INT8 by the name of its form too.
BUILT_PRECISIONS = (*PRECISIONS, *(each for each in ENGINE_PRECISIONS if each not in PRECISIONS))
ANY_PRECISION = (AUTO, *BUILT_PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class TrustOptions:
    """Which bundles are trusted; see docs/bundle.md."""

    sha256: str | None = option(
        None,
        "Refuse every bundle but the one whose manifest has this SHA-256.",
        Pattern(SHA256, "the 64 hexadecimal digits of a SHA-256"),
        flag="--expect-sha256",
        metavar="HEX",
    )
    trusted_key: str | Path | None = option(
        None, "Refuse a bundle that none of these Ed25519 public keys has signed.", metavar="PEM"
    )


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """Whether ``verdiff serve`` speaks TLS, and whom it trusts; see docs/serving.md."""

    tls_cert: Path | None = option(None, "Serve over TLS, with this certificate and its chain.", metavar="PEM")
    tls_key: Path | None = option(None, "Its private key, where that is in a file of its own.", metavar="PEM")
    tls_ca: Path | None = option(
        None,
        "Authorities: only clients with a certificate of theirs are served, and destinations need one, too.",
        metavar="PEM",
    )
    send_tls: bool = option(False, "Send to the node of --send-to over TLS.")


@dataclass(frozen=True)
class LoadOptions(TrustOptions):
    """What :meth:`verdiff.runtime.Segmenter.load` takes: the model, and what computes it."""

    model: str | Path | None = keyword(None, "A shipped model's name or a bundle; None is the default model.")
    _: KW_ONLY
    device: str = option("cpu", f"{DEVICE_WORDS}.", Pattern(DEVICE, DEVICE_WORDS))
    backend: str = option(AUTO, "Library that runs the networks; see docs/runtime.md.", OneOf(ANY_BACKEND))
    precision: str = option(
        "fp32", "auto: the fastest that passed its gate for this processor, where trying pays.", OneOf(ANY_PRECISION)
    )
    threads: int | None = option(None, "CPU threads; every core by default.", Bounds(1))
    self_test: bool = keyword(True, "Compare with the bundle's golden outputs, which is also the warm-up.")
    memory_mb: int | None = keyword(
        None, "The most that a call may take in MiB, on a GPU beside the engines; None is what is free at the call."
    )
    chunk: int | None = keyword(
        None, "Slices worked on at once, which never changes the mask; None is the backend's choice.", Bounds(1)
    )
    stream: Any = keyword(
        None,
        "On a GPU: the caller's CUDA stream for all work (an address, or a stream of cuda-core, CuPy, PyTorch or "
        "pycuda, which is kept alive); None is a stream of its own.",
    )
    priority: int | None = keyword(None, "On a GPU: the priority of a stream of its own; lower numbers go first.")
    graphs: bool | None = keyword(
        None, "On a GPU with ONNX Runtime: replay its runs as CUDA graphs; None is where it can."
    )
    work: Callable[[Any], Any] | None = keyword(
        None,
        "With precision auto: the one scan that all this is for, from verdiff.runtime.workload.one_scan. What takes "
        "longer to try than it can save on it is not tried. None is for many scans.",
    )


@dataclass(frozen=True)
class BuildOptions(TrustOptions):
    """What :func:`verdiff.engines.build.build_engines` takes: which engines, and what they are built for.

    In Python ``flavour`` may also be the module's name, such as ``"tensorrt_rtx"``, and a size may be (rows, columns).
    """

    model: str | Path | None = keyword(None, "A shipped model's name or a bundle; None is the default model.")
    precision: str = option("fp32", "Precision of the engines, which the bundle must have.", OneOf(BUILT_PRECISIONS))
    roles: tuple[str, ...] = option(
        (), "Engine to build, repeatable; by default what the runtime drives.", OneOf(ENGINE_ROLES), flag="--role"
    )
    _: KW_ONLY
    version_compatible: bool = option(False, "For TensorRT's lean runtime of the same version too.")
    hardware_compatible: bool = option(False, "For every GPU from Ampere on.")
    sizes: tuple[str | tuple[int, int], ...] = option(
        (),
        "ROWSxCOLUMNS to build for; by default the usual fields of view.",
        Pattern(SIZE, "ROWSxCOLUMNS, such as 320x256"),
        flag="--size",
    )
    batch: int | None = option(None, "Images of the largest call.", Bounds(1))
    workspace_mb: int | None = option(None, "The most device memory in MiB that a layer may take.", Bounds(1))
    device: str | None = option(None, "The GPU: cuda or cuda:N.", Pattern(GPU, "cuda or cuda:N"))
    flavour: str = option(AUTO, "Which library; auto: which is installed.", OneOf((AUTO, *ENGINE_BACKENDS)))
    sms: tuple[str, ...] = option(
        (),
        "TensorRT-RTX: compute capability to build for, such as 89.",
        Pattern(SM, "a compute capability, such as 89"),
        flag="--sm",
    )
    cache: Path | None = option(None, "Folder of the engines, in place of VERDIFF_CACHE or the user's cache.")

    def __post_init__(self) -> None:
        sizes = tuple(each if isinstance(each, str) else f"{each[0]}x{each[1]}" for each in self.sizes)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "flavour", self.flavour.replace("_", "-"))

    @property
    def pixels(self) -> tuple[tuple[int, int], ...]:
        """The sizes as (rows, columns)."""
        return tuple((int(rows), int(cols)) for rows, _, cols in (str(each).partition("x") for each in self.sizes))


# What an option of sampling may be beside its value: None in a call, which leaves it to the model; nothing in a model.
_Open = TypeVar("_Open")


@dataclass(frozen=True, kw_only=True)
class _SharedSampling(Generic[_Open]):
    """What a call may choose of the sampling and a model has a value of: options of the one, settings of the other."""

    steps: int | _Open = option(None, "Denoiser passes a sample.", Bounds(1, 100_000), model=3)
    samples: int | _Open = option(
        None, "Members of the ensemble; the first n are the same whatever their number.", Bounds(1, 1000), model=1
    )
    seed: int | _Open = option(None, "Key of the noise.", Bounds(0, 2**64 - 1), model=35)
    sampler: str | _Open = option(None, "What walks the timesteps.", OneOf(SAMPLERS), model="ddim")


@dataclass(frozen=True, kw_only=True)
class ModelSampling(_SharedSampling[Never]):
    """How a model draws masks: the ``[sampling]`` of its training, the ``defaults`` of its manifest."""

    eta: float = setting(
        None, "Noise that DDIM adds at each step: 0 is none, 1 is that of DDPM.", Bounds(0, 1), model=0.0
    )
    start: str = setting(None, "What sampling starts from.", OneOf(STARTS), model="noise")
    start_step: int | None = setting(
        None, "Timestep that sampling starts at. Left out: the highest.", Bounds(1, 100_000), model=None
    )
    # Without staple: that judges masks and not probabilities.
    fusion: str = setting(None, "What makes one mask of the samples.", OneOf(MODEL_FUSIONS), model="mean")


@dataclass(frozen=True, kw_only=True)
class SampleOptions(_SharedSampling[None]):
    """How a mask is drawn from a diffusion model; None leaves the model's default."""

    fusion: str | None = option(
        None,
        "What makes one mask of the samples, by default the model's; staple is for processors.",
        OneOf(FUSIONS),
    )
    policy: str | None = option(
        None,
        "What not to compute: locate, skip, agree joined by '+'; whole, the default; or fast, with steps and samples.",
        OneOf((WHOLE, *SETTINGS), joined=POLICIES),
    )

    @property
    def effort_is_open(self) -> bool:
        """Whether the caller left it to the model how much to compute."""
        return self.steps is None and self.samples is None and self.policy is None and self.sampler is None


@dataclass(frozen=True, kw_only=True)
class SessionOptions(SampleOptions):
    """What :meth:`verdiff.runtime.Segmenter.on_device` takes beside the shape; a session has no policy."""

    stream: Any = keyword(None, "Where the work is put, as for Segmenter.load; None is the Segmenter's stream.")


@dataclass(frozen=True, kw_only=True)
class ScanOptions(SampleOptions):
    """What holds for every scan of a series: how its mask is drawn, and which scans are taken."""

    prior_only: bool = option(False, "The prior's answer, without sampling.")
    smooth_mm: float = option(
        0.0,
        "Average over neighbouring slices, with a Gaussian of so many millimetres; 0: none.",
        Bounds(0, 100),
    )
    force: bool = option(False, "Go on with a scan unlike the training data; the reasons are recorded.")


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(LoadOptions, ScanOptions):
    """What ``verdiff calibrate`` takes beside the patients: how their masks are made, and what is promised."""

    level: float = option(0.5, "Probability of the map whose surface is moved.", Bounds(0.01, 0.99))
    probability: float | None = option(
        None,
        "What is promised where nobody says; n patients carry n / (n + 1) at most.",
        Bounds(0.0, 1.0, above=True),
    )
    report: Path | None = option(
        None, "Write every patient's distances and the cross-fitting too.", Suffix(".json"), metavar="FILE.json"
    )
    overwrite: bool = option(False, "Replace files there that verdiff did not write, or that were changed.")


@dataclass(frozen=True)
class ExportOptions(TrustOptions):
    """What ``verdiff export`` takes beside the run or bundle."""

    output: Path | None = keyword(None, "The bundle; by default named after the model and its precisions.")
    precisions: tuple[str, ...] = keyword((), "Some of fp16, bf16 and int8 (or int8-ov, int8-trt), beside FP32.")
    scans: Path | None = option(None, "Folder of scans of six patients or more, to judge the precision on.")
    _: KW_ONLY
    data: Path | None = option(None, "An nnU-Net raw data set: measure Dice against time on it, into the manifest.")
    fold: int | None = option(None, "Fold of --data whose validation cases are scored; by default 0.", Bounds(0))
    every: int | None = option(None, "With --data: score every n-th slice; by default every one.", Bounds(1))
    release: str | None = option(
        None,
        "Semantic version of the new bundle; by default the source's.",
        Pattern(VERSION, "a semantic version, such as 1.0.0"),
    )
    name: str | None = option(
        None,
        "With a run: the model's name; by default that of the run's folder.",
        Pattern(MODEL_NAME, "lower-case letters, digits, '.', '_' and '-'"),
    )
    card: Path | None = option(None, "With a run: JSON with what no run knows: licence, metrics, intended use.")
    weights: str | None = option(None, "With a run: its checkpoint; by default best.pt.")
    decide: str | None = option(
        None,
        "With a run: NAME=P,NAME=P: the probability from which on a pixel is a structure's.",
        Pattern(DECIDED, "NAME=P,NAME=P, such as disc=0.4"),
    )
    float32_weights: bool = option(False, "With a run: do not store weights as float16.")
    engine: bool = option(False, "Build TensorRT engines of it too, as 'verdiff build' does.")
    invariant: bool = option(False, "With a run: refuse it if margins, field of view or grey units move its mask.")
    overwrite: bool = option(False, "Replace files there that verdiff did not write, or that were changed.")

    @property
    def decided(self) -> dict[str, float]:
        """The probabilities of ``decide`` by the structure's name."""
        pairs = [pair.split("=") for pair in self.decide.split(",")] if self.decide else []
        return {name.strip(): float(probability) for name, probability in pairs}


@dataclass(frozen=True)
class DistillOptions:
    """What ``verdiff distill`` takes beside run and data; None leaves the run's ``[distillation]`` table."""

    steps: int | None = option(None, "Steps of the student.", Bounds(1, 4))
    weights: str = option("best.pt", "Checkpoint of RUN that is the teacher.")
    _: KW_ONLY
    teacher_steps: int | None = option(None, "Steps of the teacher.", Bounds(1))
    teacher_samples: int | None = option(None, "Samples of the teacher, averaged.", Bounds(1))
    truth_weight: float | None = option(
        None, "Share of the true mask in the loss; the rest is the teacher's.", Bounds(0, 1)
    )
    learning_rate: float | None = option(None, "Highest learning rate of Adam.", Bounds(0))
    minutes: float | None = option(None, "Wall-clock budget of the training.", Bounds(0))
    iterations: int | None = option(None, "Largest number of iterations.", Bounds(1))
    every: int = option(1, "Judge on every n-th slice.", Bounds(1))
    resume: bool = option(False, "Go on with the run in OUTPUT.")
    threads: int | None = option(None, "CPU threads; every core by default.", Bounds(1))
    device: str = keyword("auto", "What trains; auto takes CUDA where there is one.")

    def recipe(self) -> dict[str, Any]:
        """The keys of ``[distillation]`` that were given."""
        names = ("steps", "teacher_steps", "teacher_samples", "truth_weight", "minutes", "iterations", "learning_rate")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class CallOptions(ScanOptions):
    """What :meth:`verdiff.runtime.Segmenter.segment` and ``stream`` take beside the scan."""

    budget_ms: float | None = option(
        None, "Time for the best mask in milliseconds, without loading.", Bounds(0, above=True)
    )
    cancel: Callable[[], bool] | None = keyword(
        None, "Asked between chunks and steps; yes ends the call with the answer there is."
    )
    progress: Callable[[float], None] | None = keyword(None, "Called with the share of the network calls done, 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class InferOptions(LoadOptions, CallOptions):
    """How a command runs a model on a scan: how it loads it, calls it, and reads a scan that leaves its axes open."""

    orientation: str | None = None
    time_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What ``verdiff infer`` does with a list of scans; see docs/batches.md."""

    manifest: Path | None = option(
        None, "A CSV list of scans with the column scan, and name and lowest where wanted.", metavar="CSV"
    )
    redo: bool = option(False, "Segment again what an earlier call did, too.")
    leave_out_bad: bool = option(False, "Go on without the scans of a list that are missing, named twice and the like.")
    dry_run: bool = option(False, "Look at every scan's place and say what would be written; compute nothing.")
    ray: str | None = option(
        None,
        "Hand the scans to workers on a Ray cluster: local starts one here; see docs/batches.md.",
        Pattern(CLUSTER, "local, auto or HOST:PORT"),
        metavar="ADDRESS",
    )
    patience: float = option(
        3600.0, "With --ray: seconds that a worker may have a scan, before it is ended.", Bounds(1.0)
    )
