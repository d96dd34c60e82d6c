"""A model repository for NVIDIA's Triton Inference Server, made of a bundle's own ONNX graphs.

A folder a graph, each with the graph under its version, a ``config.pbtxt`` and the arrays of one warm-up request. The
fields are those of Triton's ``model_config.proto``, in protocol buffers' text format; what they mean is said in the
server's ``docs/user_guide/model_configuration.md``. The same files come of the same bundle.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff import __version__
from verdiff.errors import DataError, OutputError
from verdiff.files import Staging, require_folder
from verdiff.files.places import not_writable, require_name

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

ROLES = ("prior", "denoiser", "pipeline")
PRECISIONS = ("fp32", "fp16")
# ONNX's number of a tensor's type -> Triton's name, and numpy's; what stands between verdiff's graphs and a host.
TYPES: dict[int, tuple[str, str]] = {
    1: ("TYPE_FP32", "<f4"),
    2: ("TYPE_UINT8", "u1"),
    7: ("TYPE_INT64", "<i8"),
    10: ("TYPE_FP16", "<f2"),
}
# Images that one run of a network may take, and how long the first of them may wait for others.
MOST_IMAGES, WAIT_US = 8, 1000
# As verdiff itself asks ONNX Runtime for CUDA: FP32 without TF32, and an algorithm that is the same at every load.
CUDA = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


class Name(str):
    """A value of an enumeration, which stands without quotation marks."""


@dataclass(frozen=True)
class GraphValue:
    """One input or output of a graph.

    Attributes:
        name: Its name.
        type: ONNX's number of its type.
        shape: Length of each axis; the name of one that is free, which equal lengths share.
    """

    name: str
    type: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Served:
    """One model of the repository.

    Attributes:
        name: Name that requests call it by, and of its folder.
        graph: The ONNX file.
        config: Its configuration in text format.
        warmup: Arrays of the request that warms it up, by input.
    """

    name: str
    graph: bytes
    config: str
    warmup: dict[str, NDArray[Any]]


def write_repository(bundle: Bundle, folder: Path, *, precision: str = "fp32", version: int = 1) -> list[Served]:
    """Write the repository of a bundle, whole or not at all.

    Args:
        bundle: An opened bundle of a model that takes slices.
        folder: The repository: nothing there, or an empty folder.
        precision: ``"fp32"`` or ``"fp16"``, of which the bundle must have all graphs.
        version: Version of every model, 1 or more.

    Raises:
        DataError: A graph that the repository wants is not in the bundle.
        OutputError: The place is taken or cannot be written.
    """
    target = Path(os.path.realpath(folder))
    _require_free(target)
    models = served(bundle, precision, version)
    with Staging(target.parent) as staged:
        made = staged.room / target.name
        for path, data in _files(models, version):
            place = made / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _require_free(target)
        try:
            with suppress(FileNotFoundError):
                target.rmdir()
            os.rename(made, target)
        except OSError as error:
            raise not_writable(target, error) from error
    return models


def serve_command(folder: Path) -> str:
    """The command that serves a repository, where Triton is installed or in its container."""
    return f"tritonserver --model-repository={shlex.quote(os.path.abspath(folder))} --disable-auto-complete-config"


def served(bundle: Bundle, precision: str, version: int) -> list[Served]:
    """The models of a bundle's repository.

    Raises:
        DataError: A graph is missing, or has what Triton cannot serve.
    """
    roles = [role for role in ROLES if role != "denoiser" or bundle.has("denoiser")]
    lacking = [role for role in roles if precision not in bundle.precisions(role)]
    if lacking:
        manifest = bundle.manifest
        takes_volumes = manifest.volume is not None
        raise DataError(
            f"{manifest.model_id} {manifest.version} has no {' and no '.join(lacking)} graph in {precision}"
            + (", since it takes volumes" if takes_volumes else ""),
            f"a bundle with the graphs {', '.join(roles)} in {precision}",
            "serve it with verdiff.serve instead, or name a model that takes slices"
            if takes_volumes
            else f"write the bundle again with 'verdiff export{' --fp16' if precision == 'fp16' else ''}'",
        )
    samples = _samples(bundle)
    return [_served(bundle, role, precision, version, samples[role]) for role in roles]


def _served(bundle: Bundle, role: str, precision: str, version: int, sample: Mapping[str, NDArray[Any]]) -> Served:
    graph = bundle.graph(role, precision)
    inputs, outputs = _tensors(graph)
    name = f"{bundle.manifest.model_id}-{role}"
    batched = _batched([*inputs, *outputs])
    given = {each.name: sample[each.name].astype(TYPES[each.type][1]) for each in inputs}
    if batched:
        given = {key: array[:1] for key, array in given.items()}
    warmup = {
        "name": "golden image",
        # Of a model without a batch too; of one with it, the arrays are one image's.
        "batch_size": 1,
        "inputs": [
            {
                "key": each.name,
                "value": {
                    "data_type": Name(TYPES[each.type][0]),
                    "dims": list(given[each.name].shape[batched:]) or [1],
                    "input_data_file": each.name,
                },
            }
            for each in inputs
        ],
    }
    config: dict[str, Any] = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": MOST_IMAGES if batched else 0,
        "input": [_declared(each, batched) for each in inputs],
        "output": [_declared(each, batched) for each in outputs],
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": [{"count": 1, "kind": Name("KIND_AUTO")}],
    }
    if batched:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": WAIT_US}
    config["optimization"] = {
        "execution_accelerators": {
            "gpu_execution_accelerator": [
                {"name": "cuda", "parameters": [{"key": key, "value": value} for key, value in CUDA.items()]}
            ]
        }
    }
    config["model_warmup"] = [warmup]
    config["parameters"] = [
        {"key": key, "value": {"string_value": value}}
        for key, value in {
            "model": f"{bundle.manifest.model_id} {bundle.manifest.version}",
            "manifest_sha256": bundle.manifest_sha256,
            "precision": precision,
            "written_by": f"verdiff {__version__}",
        }.items()
    ]
    return Served(name, graph, text(config), given)


def _tensors(graph: bytes) -> tuple[list[GraphValue], list[GraphValue]]:
    """Inputs and outputs of a graph."""
    import onnx

    loaded = onnx.load_from_string(graph).graph
    constants = {each.name for each in loaded.initializer}

    def read(values: Any) -> list[GraphValue]:
        found = []
        for value in values:
            kind = value.type.tensor_type
            if kind.elem_type not in TYPES:
                raise DataError(
                    f"{value.name} is of ONNX's type {kind.elem_type}",
                    f"one of {', '.join(name for name, _ in TYPES.values())}",
                    "choose another precision",
                )
            shape = tuple(each.dim_param or each.dim_value or "?" for each in kind.shape.dim)
            found.append(GraphValue(value.name, kind.elem_type, shape))
        return found

    return read(each for each in loaded.input if each.name not in constants), read(loaded.output)


def _batched(tensors: Sequence[GraphValue]) -> bool:
    """Whether the first axis of every tensor is the same free one, along which requests can be joined."""
    first = {each.shape[0] if each.shape else 0 for each in tensors}
    return len(first) == 1 and isinstance(next(iter(first)), str) and "?" not in first


def _declared(tensor: GraphValue, batched: bool) -> dict[str, Any]:
    """A tensor as the configuration has it: without its first axis where that is the batch."""
    dims = [length if isinstance(length, int) else -1 for length in tensor.shape[batched:]]
    found = {"name": tensor.name, "data_type": Name(TYPES[tensor.type][0]), "dims": dims or [1]}
    # Triton has no tensor without axes: a request gives one number in an axis of its own, and the graph is given none.
    return found if dims else {**found, "reshape": {"shape": []}}


def _samples(bundle: Bundle) -> dict[str, dict[str, NDArray[Any]]]:
    """A request of each graph, from the bundle's golden image."""
    golden = bundle.golden()
    image, prior = golden["image"], golden["prior"]
    rows, cols = image.shape[2:]
    noise = golden.get("noise", np.zeros((1, *prior.shape), np.float32))
    found: dict[str, dict[str, NDArray[Any]]] = {
        "prior": {"image": image},
        "pipeline": {
            "slices": image[:, 0],
            "bounds": np.array([-1, 1], np.float32),
            "size": np.array([rows, cols], np.int64),
            "noise": noise[:1],
        },
    }
    table = bundle.manifest.table
    if bundle.has("denoiser") and table is not None:
        features = {each.name: golden[each.name] for each in bundle.manifest.features}
        timesteps = np.full(len(image), table.timesteps[0], np.float32)
        found["denoiser"] = {"x": golden["x_start"], "timestep": timesteps, "prior": prior, **features}
    return found


def _files(models: Sequence[Served], version: int) -> Iterator[tuple[Path, bytes]]:
    for each in models:
        yield Path(each.name, "config.pbtxt"), each.config.encode("utf-8")
        yield Path(each.name, str(version), "model.onnx"), each.graph
        for name, array in each.warmup.items():
            yield Path(each.name, "warmup", name), np.ascontiguousarray(array).tobytes()


def _require_free(target: Path) -> None:
    """Refuse a place that is taken, or that cannot be written."""
    require_name(target)
    require_folder(target.parent, make=True)
    if not os.path.lexists(target):
        return
    kind = "folder" if target.is_dir() else "file"
    if kind == "file" or any(target.iterdir()):
        raise OutputError(
            f"a {kind} at {target}" + (" that is not empty" if kind == "folder" else ""),
            "a new or an empty folder for the model repository",
            "choose another folder, or remove it first",
        )


def text(message: Mapping[str, Any], indent: int = 0) -> str:
    """A message in protocol buffers' text format: a mapping is a message, a sequence a repeated field."""
    lines: list[str] = []
    for key, value in message.items():
        several = isinstance(value, list | tuple)
        if several and not any(isinstance(each, Mapping) for each in value):
            # Also an empty one, which some of Triton's fields tell from one that is not there.
            lines.append(f"{key}: [{', '.join(map(_scalar, value))}]")
            continue
        for each in value if several else (value,):
            if isinstance(each, Mapping):
                inner = text(each, 1)
                lines += [f"{key} {{", *inner.splitlines(), "}"]
            else:
                lines.append(f"{key}: {_scalar(each)}")
    return "".join(f"{'  ' * indent}{line}\n" for line in lines)


def _scalar(value: Any) -> str:
    if isinstance(value, Name) or not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
