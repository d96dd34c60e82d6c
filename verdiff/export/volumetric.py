"""The FP32 bundle of a run that was trained on volumes: one graph for windows of one size, its golden, its checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from verdiff.bundle import VOLUME_SCHEMA, Bundle, Defaults, Manifest, graph_name
from verdiff.bundle.golden import pack_golden
from verdiff.bundle.layout import GOLDEN
from verdiff.bundle.objects import VolumeRule, ids_in_masks
from verdiff.diffusion import background_and_labels
from verdiff.diffusion.noise import noise_source
from verdiff.errors import DataError
from verdiff.export.checks import AgreementCheck, backends_of, require_passed, within_rounding
from verdiff.export.draft import Draft
from verdiff.export.golden import GOLDEN_SEED, phantom
from verdiff.export.run_manifest import make_manifest
from verdiff.export.spread import CALM, probability_difference
from verdiff.export.torch_graphs import PriorGraph, export_graph
from verdiff.export.weights import store_as_half
from verdiff.imaging.windows import OVERLAP
from verdiff.train.checkpoint import Checkpoint
from verdiff.train.data.cases import VERIFICATION_SLICES
from verdiff.train.networks import SegmentationModel

Array = NDArray[np.float32]

# Each takes seconds on a processor, in PyTorch and in every backend.
MOST_WINDOWS = 2
# Goldens are kept as float16, or a window of seven structures would take more room than its network.
HALF_ROUNDING = 2.0**-13


def draft_of_volume_run(
    source: Path,
    net: SegmentationModel,
    checkpoint: Checkpoint,
    statements: Mapping[str, Any],
    *,
    half_weights: bool,
    say: Callable[[str], None],
) -> Draft:
    """The FP32 bundle of a run on volumes, verified and not yet written.

    Args:
        source: The run's folder, with the windows it put aside.
        net: Its network in evaluation mode, rounded if ``half_weights``.
        checkpoint: What it was loaded from.
        statements: Statements of the model card.
        half_weights: Store weights as float16.
        say: Takes each line about the checks.

    Raises:
        DataError: The run has no windows put aside, or its configuration names no grid.
        VerificationError: The graph does not agree with PyTorch.
    """
    config, facts = checkpoint.config, checkpoint.facts
    say(f"{config.model_id}: iteration {checkpoint.iteration} of fold {facts.fold}; exporting the graph")
    graph = export_volume_network(net, config.network.patch)
    manifest = volume_manifest(checkpoint, statements, window_mebibytes(graph), half_weights)
    if half_weights:
        graph = store_as_half(graph)
    golden = make_volume_golden(net, config.network.patch, facts.label_ids)
    files = {graph_name("prior"): graph.SerializeToString(deterministic=True), GOLDEN: pack_golden(golden)}
    draft = Draft(manifest, files)
    windows = windows_of_run(source, config.network.patch)
    with draft.opened() as bundle:
        verify_volume_bundle(bundle, net, windows[:MOST_WINDOWS], say)
    return draft


def export_volume_network(net: SegmentationModel, patch: tuple[int, int, int]) -> onnx.ModelProto:
    """``prior`` of an evaluation-mode network, image [N, 1, D, H, W] -> prior [N, K, D, H, W] in [-1, 1]: D, H and W
    are those of ``patch``, N is free."""
    image = torch.zeros(2, 1, *patch)
    return export_graph(PriorGraph(net).eval(), (image,), ["image"], ["prior"], ({0: "N"},))


def volume_manifest(
    checkpoint: Checkpoint, statements: Mapping[str, Any], window_mb: float | None, half_weights: bool
) -> Manifest:
    """The manifest of a run's bundle; what the card does not say is said to be unknown.

    Raises:
        DataError: The configuration does not say how far apart the model's slices and pixels are.
    """
    data, patch = checkpoint.config.data, checkpoint.config.network.patch
    if data.spacing_mm is None or data.slice_spacing_mm is None:
        raise DataError(
            f"spacing_mm = {data.spacing_mm}, slice_spacing_mm = {data.slice_spacing_mm} in the run's configuration",
            "both in millimetres, for a model that takes volumes",
            "train with a configuration that says them in [data]",
        )
    defaults = Defaults(**{**asdict(checkpoint.config.sampling), "steps": 0, "samples": 0})
    manifest = make_manifest(checkpoint, None, defaults, statements, half_weights)
    spacing = (data.slice_spacing_mm, data.spacing_mm, data.spacing_mm)
    volume = VolumeRule(patch, spacing, OVERLAP, data.crop, window_mb)
    return replace(manifest, volume=volume, schema_version=VOLUME_SCHEMA)


def volume_phantom(patch: tuple[int, int, int]) -> Array:
    """A spine-like window [1, 1, D, H, W] in [-1, 1], exact in float16 and the same on every machine."""
    depth, rows, cols = patch
    plane = (phantom(rows, cols)[0, 0] + 1) / 2
    z = np.arange(depth)[:, None, None]
    bell = np.exp(-(((z - (depth - 1) / 2) / max(1.0, depth / 3)) ** 2))
    texture = noise_source(GOLDEN_SEED, slices=range(depth), samples=[0] * depth, shape=(rows, cols))(0)
    window = np.clip(2 * (0.1 + 0.85 * plane * bell + 0.03 * texture) - 1, -1, 1)
    return window.astype(np.float16).astype(np.float32)[None, None]


@torch.no_grad()
def make_volume_golden(
    net: SegmentationModel, patch: tuple[int, int, int], label_ids: tuple[int, ...]
) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``golden/golden.npz``: a window, the prior (both float16) and the mask that follows from it."""
    image = volume_phantom(patch)
    prior = PriorGraph(net).eval()(torch.from_numpy(image))[0].numpy().astype(np.float16)
    # Slice by slice, as the runtime takes the labels.
    slices = np.moveaxis((prior[0].astype(np.float32) + 1) / 2, 1, 0)
    ids = ids_in_masks(label_ids)
    return {"image": image.astype(np.float16), "prior": prior, "labels": ids[background_and_labels(slices)][None]}


def windows_of_run(run: Path, patch: tuple[int, int, int]) -> Array:
    """The windows of validation patients that the run put aside, [n, 1, D, H, W].

    Raises:
        DataError: The run holds none, or they do not have the size of ``patch``.
    """
    path = run / VERIFICATION_SLICES
    shape: tuple[int, ...] = ()
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            windows: Array = arrays["images"].astype(np.float32)
        shape = windows.shape
        if shape[1:] == patch and len(windows):
            return windows[:, None]
    raise DataError(
        f"windows of shape {shape} in the run's {path.name}" if shape else f"the run has no {path.name}",
        f"windows of {' x '.join(map(str, patch))} voxels, which a training on volumes puts aside",
        "export a complete run of a 3D system",
    )


@torch.no_grad()
def verify_volume_bundle(
    bundle: Bundle, net: SegmentationModel, windows: Array, say: Callable[[str], None]
) -> tuple[AgreementCheck, ...]:
    """Compare ``bundle`` with ``net`` on real ``windows`` [n, 1, D, H, W] with every backend installed.

    Raises:
        VerificationError: Naming each comparison that is out of its limit.
        BackendError: ONNX Runtime is not installed.
    """
    backends = backends_of(bundle)
    prior, golden = PriorGraph(net).eval(), bundle.golden()
    expected = np.concatenate([prior(torch.from_numpy(window[None]))[0].numpy() for window in windows])
    checks: list[AgreementCheck] = []
    for name, backend in backends.items():
        found = np.concatenate([backend.prior(window[None])[0] for window in windows])
        checks += within_rounding(name, "prior", found, expected)
        kept = probability_difference(backend.prior(golden["image"].astype(np.float32))[0], golden["prior"])
        checks.append(AgreementCheck(f"{name} golden prior (kept as float16)", kept, CALM.allows(name) + HALF_ROUNDING))
    require_passed(checks, say)
    return tuple(checks)


def window_mebibytes(model: onnx.ModelProto) -> float | None:
    """MiB of the tensors that are needed at once, at most, while ``model`` runs one window; None if a size is unknown.

    Nodes in their order; a tensor is needed from the node that makes it to the last that reads it. Weights count once.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    constants = {each.name for each in graph.initializer}
    sizes = {v.name: _bytes(v) for v in (*graph.input, *graph.output, *graph.value_info) if v.name not in constants}
    last = {name: at for at, node in enumerate(graph.node) for name in node.input}
    last.update({value.name: len(graph.node) for value in graph.output})
    needed = {value.name for value in graph.input}
    most = 0
    for at, node in enumerate(graph.node):
        needed.update(name for name in node.output if name)
        here = [sizes.get(name) for name in needed]
        known = [size for size in here if size is not None]
        if len(known) < len(here):
            return None
        most = max(most, sum(known))
        needed = {name for name in needed if last.get(name, -1) > at}
    weights = sum(math.prod(each.dims) * _width(each.data_type) for each in graph.initializer)
    return round((most + weights) / 2**20, 1)


def _bytes(value: onnx.ValueInfoProto) -> int | None:
    tensor = value.type.tensor_type
    if any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return math.prod(dim.dim_value for dim in tensor.shape.dim) * _width(tensor.elem_type)


def _width(kind: int) -> int:
    return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize)
