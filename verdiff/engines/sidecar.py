"""What is known of one engine: its key, which names it, and its sidecar, the JSON file beside the plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from verdiff.choices import ENGINE_ROLES
from verdiff.engines.flavours import FLAVOURS
from verdiff.engines.shapes import ProfileShape, TensorRange
from verdiff.errors import BackendError

# What verdiff makes of a graph (the step's inputs, the builder's settings): raised when engines must be built anew.
RECIPE = 3
VERSION_COMPATIBLE, HARDWARE_COMPATIBLE = "version-compatible", "hardware-compatible"
FLAGS = (VERSION_COMPATIBLE, HARDWARE_COMPATIBLE)

PLAN, SIDECAR = ".plan", ".json"
FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class EngineKey:
    """Everything that makes one engine another engine; its hash names the files.

    Attributes:
        model_id: Name of the model in the manifest.
        role: ``"prior"``, ``"step"`` or ``"pipeline"``.
        precision: One of :data:`ENGINE_PRECISIONS`, as the bundle names its graphs.
        graph_sha256: Hash of the bundle's graph with its weights; for the pipeline, which is made of all graphs, of its
            manifest.
        flavour: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        trt_version: The library that built it, all four parts.
        cuda_version: Major version of the CUDA that library was built for; ``""`` if not known.
        profiles: The shapes it takes.
        flags: Some of :data:`FLAGS`, sorted.
        sm: Where it runs: ``"90"``; ``"80+"`` when hardware-compatible; ``"86,89"`` for several.
        gpu_name: The one GPU it was tuned for; ``""`` when it is hardware-compatible or TensorRT-RTX's.
        workspace_bytes: The most device memory a layer may take; None left it to TensorRT.
        recipe: :data:`RECIPE` of the verdiff that built it.
    """

    model_id: str
    role: str
    precision: str
    graph_sha256: str
    flavour: str
    trt_version: str
    cuda_version: str
    profiles: tuple[ProfileShape, ...]
    flags: tuple[str, ...]
    sm: str
    gpu_name: str = ""
    workspace_bytes: int | None = None
    recipe: int = RECIPE

    def fingerprint(self) -> str:
        """SHA-256 over every field, in hexadecimal."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def stem(self) -> str:
        """Name of the engine's files without their suffix."""
        return f"{self.model_id}-{self.role}-{self.precision}-{self.fingerprint()[:FINGERPRINT_DIGITS]}"


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of an engine.

    Attributes:
        name: Name in the engine.
        dtype: Type in numpy's words: ``"float32"``, ``"float16"``, ``"int64"``.
        mode: ``"input"`` or ``"output"``.
        shape: -1 where it is dynamic.
    """

    name: str
    dtype: str
    mode: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sidecar:
    """What the builder says of one plan.

    Attributes:
        key: What it is.
        plan_sha256: Hash of the plan's bytes.
        plan_bytes: How many they are.
        io: Inputs, then outputs.
        weight_bytes: What the engine keeps of weights, as TensorRT reports it; None where it does not.
        device_memory_bytes: What its largest profile takes beside weights and inputs; None where TensorRT does not
            say.
        proof: How the precision was proven, one sentence a proof.
        driver_version: NVIDIA's driver at build time; ``""`` without one.
        gpu_name: The GPU at build time; ``""`` without one.
        built_at: UTC, ISO 8601.
        build_seconds: How long it took.
        verdiff: Version that built it.
        arguments: Arguments of the ``verdiff build`` that makes it again, flavour and SMs apart.
    """

    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    io: tuple[TensorInfo, ...]
    weight_bytes: int | None
    device_memory_bytes: int | None
    proof: tuple[str, ...]
    driver_version: str
    gpu_name: str
    built_at: str
    build_seconds: float
    verdiff: str
    arguments: tuple[str, ...]

    def to_json(self) -> str:
        """The file's text; the fingerprint is written beside the key it is made of."""
        return json.dumps({"fingerprint": self.key.fingerprint(), **asdict(self)}, indent=1, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, data: str | bytes, name: str) -> Sidecar:
        """Read what :meth:`to_json` wrote.

        Args:
            data: The file's contents.
            name: What to call the file in the error.

        Raises:
            BackendError: Not such a file, or its fingerprint is not that of its key.
        """
        try:
            values = json.loads(data)
            sidecar = _sidecar(values)
            stated, made = str(values["fingerprint"]), sidecar.key.fingerprint()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise unreadable(name, f"{type(error).__name__}: {error}") from error
        if stated != made:
            raise unreadable(name, f"it states fingerprint {stated[:12]}... for a key of {made[:12]}...")
        return sidecar


def unreadable(name: str, reason: str) -> BackendError:
    """The error for a sidecar that is damaged or was changed."""
    return BackendError(
        f"the sidecar {name} cannot be used ({reason})",
        "the JSON file that 'verdiff build' wrote beside the plan",
        "delete the plan and its sidecar, and build the engine again with 'verdiff build': what was asked for is lost "
        "with the sidecar, so name the model, precision, role and sizes as before",
    )


_T = TypeVar("_T")


def _sidecar(values: Mapping[str, Any]) -> Sidecar:
    key = dict(values["key"])
    key["profiles"] = tuple(_profile(profile) for profile in key["profiles"])
    key["flags"] = _texts(key["flags"])
    return _make(
        Sidecar,
        values,
        key=_make(EngineKey, key, role=_one_of(ENGINE_ROLES, key["role"]), flavour=_one_of(FLAVOURS, key["flavour"])),
        io=tuple(_make(TensorInfo, tensor, shape=_shape(tensor["shape"])) for tensor in values["io"]),
        proof=_texts(values["proof"]),
        arguments=_texts(values["arguments"]),
    )


def _profile(values: Mapping[str, Any]) -> ProfileShape:
    shapes = ("minimum", "optimum", "maximum")
    profile = ProfileShape(
        tuple(_make(TensorRange, each, **{name: _shape(each[name]) for name in shapes}) for each in values["ranges"])
    )
    if any(not len(each.minimum) == len(each.optimum) == len(each.maximum) for each in profile.ranges):
        raise ValueError("a range whose shapes differ in length")
    try:
        _ = profile.bucket
    except (BackendError, StopIteration, IndexError, ValueError) as error:
        raise ValueError(f"a profile of no size ({error})") from error
    return profile


def _make(kind: Callable[..., _T], values: Mapping[str, Any], **parts: Any) -> _T:
    """A dataclass from a JSON object: every field must be there and have the type it states."""
    made: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value = parts.get(field.name, values[field.name])
        allowed = _PLAIN.get(str(field.type))
        if allowed is not None and (
            not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        ):
            raise TypeError(f"{field.name!r} is a {type(value).__name__}")
        made[field.name] = value
    return kind(**made)


_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "int | None": (int, type(None)),
}


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_checked(str, value) for value in values)


def _shape(values: Any) -> tuple[int, ...]:
    return tuple(_checked(int, value) for value in values)


def _one_of(allowed: Any, value: Any) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return str(value)


def _checked(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
