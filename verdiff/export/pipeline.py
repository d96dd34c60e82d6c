"""The whole sampler as one ONNX graph, for hosts without verdiff: raw slices in, labels in the scan's pixels out.

It repeats, operator for operator, what :mod:`verdiff.imaging` (intensities, resampling), :mod:`verdiff.diffusion`
(start, table, fusion) and the runtime do; the export compares the two before a bundle is written. What its inputs and
outputs mean is a written contract (docs/contract.md), whose version and short form travel in the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from verdiff.bundle.objects import ids_in_masks
from verdiff.diffusion.tables import SamplerTable
from verdiff.export.builder import GraphBuilder, make_model, tensor_info

# Rises when a host that was written for the last one would give a wrong mask.
CONTRACT_VERSION = 2
PURPOSE = (
    "Raw slices of a scan in, labels in the scan's own pixels out: intensities, resampling, networks, every step of "
    "the sampler and fusion. How a host makes the inputs: the contract for hosts, docs/contract.md of verdiff."
)
SLICES = (
    "Raw intensities [N, h, w] of N slices in the scan's own pixels, in the model's view: sagittal slices run from "
    "right to left, rows from superior to inferior, columns from anterior to posterior."
)
BOUNDS = "The raw intensities [low, high], low < high, that become -1 and 1; what lies beyond is clipped."
SIZE = "Rows and columns of a slice at the model's pixel spacing, before padding; each at least 1."
NOISE = (
    "Standard normal numbers [M, N, K, H, W]: M samples whose mean is the answer, K structures, H and W the size "
    "rounded up to the model's multiple. Philox4x32-10 and Box-Muller of seed, slice and sample, as the contract says."
)
LABELS = "The mask [N, h, w] in the scan's own pixels: 0 for background, else the id of a structure."
PROBABILITIES = "The probability [N, K, h, w] of each structure, 0 to 1, in the order of the manifest's labels."
UNCERTAINTY = "The normalised entropy [N, h, w] of background and structures, 0 (certain) to 1."


def build_pipeline(
    prior: onnx.ModelProto,
    denoiser: onnx.ModelProto | None,
    table: SamplerTable | None,
    label_ids: tuple[int, ...],
    *,
    model_id: str,
    unrolled: bool = False,
    multiple: int = 1,
) -> onnx.ModelProto:
    """The pipeline graph, its denoising steps in a ``Loop`` or one after the other; of a single-pass model, without.

    Inputs: ``slices`` [N, h, w] raw intensities; ``bounds`` [2] the intensities that become -1 and 1; ``size`` int64
    [2] the rows and columns of the slices at the model's pixel spacing; and for a diffusion ``noise`` [M, N, K, H, W]
    standard normal, with H and W that size rounded up to the model's multiple. Outputs: ``labels`` uint8 [N, h, w],
    ``probabilities`` [N, K, h, w] and ``uncertainty`` [N, h, w] in [0, 1].

    Args:
        denoiser: Denoiser that goes with ``table``; both are None for a single-pass model.
        table: A sampler without step noise (eta = 0): the start is the only place that takes any.
        label_ids: The mask value of each channel.
        model_id: Name of the model, for the graph's metadata.
        unrolled: Whether the steps stand one after the other, sharing the weights, as CUDA graphs and TensorRT want
            it, which cannot hold control flow.
        multiple: Number that rows and columns of a single-pass model are padded to multiples of. A diffusion takes it
            from the noise.
    """
    if table is not None and not table.deterministic:
        raise ValueError("a pipeline graph takes noise at its start alone: use a table with eta = 0")
    b = GraphBuilder()
    image, sizes = _prepare(b, None if denoiser is not None else multiple)
    outputs = b.inline(prior, {"image": image}, "prior/")
    f = outputs.pop("prior")
    features = [outputs[name] for name in sorted(outputs, key=lambda name: int(name.rsplit("_", 1)[1]))]
    mask = f
    if denoiser is not None and table is not None:
        x0hat = _sample(b, denoiser, table, f, features, unrolled)
        by_sample = b.op("Reshape", x0hat, b.op("Shape", "noise"))
        mask = b.op("ReduceMean", by_sample, b.const([0], np.int64), keepdims=0)
    _finish(b, mask, sizes, label_ids)
    classes = len(label_ids)
    noise = [tensor_info("noise", ["M", "N", classes, "H", "W"], doc=NOISE)] if denoiser is not None else []
    graph = helper.make_graph(
        b.nodes,
        "pipeline-unrolled" if unrolled else "pipeline",
        [
            tensor_info("slices", ["N", "h", "w"], doc=SLICES),
            tensor_info("bounds", [2], doc=BOUNDS),
            tensor_info("size", [2], TensorProto.INT64, doc=SIZE),
            *noise,
        ],
        [
            tensor_info("labels", ["N", "h", "w"], TensorProto.UINT8, doc=LABELS),
            tensor_info("probabilities", ["N", classes, "h", "w"], doc=PROBABILITIES),
            tensor_info("uncertainty", ["N", "h", "w"], doc=UNCERTAINTY),
        ],
        b.initializers,
        doc_string=PURPOSE,
    )
    model = make_model(graph)
    helper.set_model_props(model, {"model_id": model_id, "contract_version": str(CONTRACT_VERSION)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _dim(b: GraphBuilder, value: str, axis: int) -> str:
    """One entry of a tensor's shape, as int64 [1]."""
    return b.op("Shape", value, start=axis, end=axis + 1)


def _resize_matrix(b: GraphBuilder, n_out: str, n_in: str) -> str:
    """verdiff.imaging.resample.resize_matrix as operators: float32 [n_out, n_in] from two int64 [1] sizes.

    Everything there times 2 n_out is a whole number: output i has its centre at (2 i + 1) n_in - n_out, input j lies at
    2 n_out j, and the triangle reaches 2 max(n_out, n_in) to either side. So nothing is rounded before the division at
    the end, and no runtime needs float64, which those in browsers and TensorRT lack.
    """
    scalar, axis0, axis1 = b.const([], np.int64), b.const([0], np.int64), b.const([1], np.int64)
    zero, one, two = (b.const(value, np.int64) for value in (0, 1, 2))

    def indices(count: str) -> str:
        return b.op("Range", zero, b.op("Reshape", count, scalar), one)

    odd = b.op("Add", b.op("Mul", indices(n_out), two), one)
    centre = b.op("Sub", b.op("Mul", odd, n_in), n_out)
    position = b.op("Mul", indices(n_in), b.op("Mul", n_out, two))
    distance = b.op("Abs", b.op("Sub", b.op("Unsqueeze", position, axis0), b.op("Unsqueeze", centre, axis1)))
    reach = b.op("Mul", b.op("Max", n_out, n_in), two)
    weights = b.op("Cast", b.op("Max", b.op("Sub", reach, distance), zero), to=TensorProto.FLOAT)
    return b.op("Div", weights, b.op("ReduceSum", weights, axis1))


def _resize(b: GraphBuilder, planes: str, rows: str, cols: str) -> str:
    """R planes C^T over the last two axes."""
    return b.op("MatMul", b.op("MatMul", rows, planes), b.op("Transpose", cols, perm=[1, 0]))


def _prepare(b: GraphBuilder, multiple: int | None) -> tuple[str, tuple[str, str, str, str]]:
    """Raw slices -> the padded network input; also the sizes (scan rows, scan columns, model rows, model columns).

    Padded to multiples of ``multiple``, or with None to the size of the noise.
    """
    one, two = b.const(1.0, np.float32), b.const(2.0, np.float32)
    axis0, axis1 = b.const([0], np.int64), b.const([1], np.int64)
    low, high = (b.op("Gather", "bounds", b.const(i, np.int64)) for i in (0, 1))
    lifted = b.op("Sub", b.op("Clip", "slices", low, high), low)
    scaled = b.op("Sub", b.op("Mul", lifted, b.op("Div", two, b.op("Sub", high, low))), one)
    scan = _dim(b, "slices", 1), _dim(b, "slices", 2)
    model = b.op("Gather", "size", axis0), b.op("Gather", "size", axis1)
    small = _resize(b, scaled, _resize_matrix(b, model[0], scan[0]), _resize_matrix(b, model[1], scan[1]))
    if multiple is None:
        rows, cols = (b.op("Sub", _dim(b, "noise", axis), size) for axis, size in ((3, model[0]), (4, model[1])))
    else:
        step, most = b.const([multiple], np.int64), b.const([multiple - 1], np.int64)
        whole = [b.op("Mul", b.op("Div", b.op("Add", size, most), step), step) for size in model]
        rows, cols = (b.op("Sub", padded, size) for padded, size in zip(whole, model, strict=True))
    pads = b.op("Concat", b.const([0, 0, 0, 0], np.int64), rows, cols, axis=0)
    padded = b.op("Pad", small, pads, b.const(-1.0, np.float32))
    return b.op("Unsqueeze", padded, axis1), (*scan, *model)


def _sample(
    b: GraphBuilder, denoiser: onnx.ModelProto, table: SamplerTable, prior: str, features: list[str], unrolled: bool
) -> str:
    """All M samples as one batch [M N, K, H, W] through the loop; returns the last x0hat."""
    samples = _dim(b, "noise", 0)

    def for_every_sample(value: str) -> str:
        ones = b.const([1, 1, 1], np.int64)
        return b.op("Tile", value, b.op("Concat", samples, ones, axis=0))

    f = for_every_sample(prior)
    tiled = [for_every_sample(feature) for feature in features]
    z = b.op("Reshape", "noise", b.op("Shape", f))
    on_prior, on_noise = (b.const(v, np.float32) for v in table.start)
    x = b.op("Add", b.op("Mul", f, on_prior), b.op("Mul", z, on_noise))
    if unrolled:
        return _steps_in_a_row(b, denoiser, table, f, tiled, x)
    body = _loop_body(denoiser, table, f, tiled)
    steps, go = b.const(len(table), np.int64), b.const(True, np.bool_)
    return b.ops("Loop", [steps, go, x, f], 2, body=body)[1]


def _steps_in_a_row(
    b: GraphBuilder, denoiser: onnx.ModelProto, table: SamplerTable, prior: str, features: list[str], x: str
) -> str:
    """The loop of :func:`verdiff.diffusion.run_loop` written out; terms with a coefficient of zero are left out."""
    condition = {f"feature_{index}": feature for index, feature in enumerate(features)}
    weights: dict[str, str] = {}
    previous, x0hat = prior, prior
    for row, timestep in enumerate(table.timesteps.tolist()):
        batch = b.op("Expand", b.const(timestep, np.float32), _dim(b, x, 0))
        names = {"x": x, "timestep": batch, "prior": prior, **condition}
        x0hat = b.inline(denoiser, names, f"step_{row}/", weights=weights)["x0hat"]
        on_x, on_x0hat, on_prior, _, on_previous = table.coefficients[row].tolist()
        if row + 1 < len(table):
            terms = ((x, on_x), (x0hat, on_x0hat), (prior, on_prior), (previous, on_previous))
            parts = [b.op("Mul", value, b.const(weight, np.float32)) for value, weight in terms if weight != 0.0]
            x = parts[0]
            for part in parts[1:]:
                x = b.op("Add", x, part)
            previous = x0hat
    return x0hat


def _loop_body(denoiser: onnx.ModelProto, table: SamplerTable, prior: str, features: list[str]) -> onnx.GraphProto:
    """One step: (i, go, x, x0hat_previous) -> (go, x, x0hat). It owns the denoiser's weights.

    Weights captured from the outer graph instead would cost a good third of the speed on ONNX Runtime.
    """
    b = GraphBuilder("step/")
    coefficients = b.const(table.coefficients, np.float32)
    timesteps = b.const(table.timesteps, np.float32)
    row = b.op("Gather", coefficients, "step/i", axis=0)
    timestep = b.op("Gather", timesteps, "step/i")
    batch = b.op("Expand", timestep, _dim(b, "step/x", 0))
    names = {"x": "step/x", "timestep": batch, "prior": prior}
    names.update({f"feature_{index}": feature for index, feature in enumerate(features)})
    x0hat = b.inline(denoiser, names, "denoiser/")["x0hat"]
    on = [b.op("Gather", row, b.const(i, np.int64)) for i in (0, 1, 2, 4)]
    total = b.op("Add", b.op("Mul", "step/x", on[0]), b.op("Mul", x0hat, on[1]))
    total = b.op("Add", total, b.op("Mul", prior, on[2]))
    total = b.op("Add", total, b.op("Mul", "step/previous", on[3]))
    go = b.op("Identity", "step/go")
    result = b.op("Identity", x0hat)
    shape: list[str | int | None] = [None, None, None, None]
    return helper.make_graph(
        b.nodes,
        "step",
        [
            tensor_info("step/i", [], TensorProto.INT64),
            tensor_info("step/go", [], TensorProto.BOOL),
            tensor_info("step/x", shape),
            tensor_info("step/previous", shape),
        ],
        [tensor_info(go, [], TensorProto.BOOL), tensor_info(total, shape), tensor_info(result, shape)],
        b.initializers,
    )


def _finish(b: GraphBuilder, mask: str, sizes: tuple[str, str, str, str], label_ids: tuple[int, ...]) -> None:
    """Probabilities of a mask on [-1, 1], uncertainty, crop, back to the scan's pixels, labels."""
    one, half, tiny = (b.const(v, np.float32) for v in (1.0, 0.5, 1e-12))
    p = b.op("Mul", b.op("Add", mask, one), half)
    corner = b.const([0, 0], np.int64)
    ends = b.op("Concat", sizes[2], sizes[3], axis=0)
    p = b.op("Slice", p, corner, ends, b.const([2, 3], np.int64))
    channel = b.const([1], np.int64)
    background = b.op("Sub", one, b.op("ReduceMax", p, channel, keepdims=1))
    everything = b.op("Concat", background, p, axis=1)
    share = b.op("Div", everything, b.op("ReduceSum", everything, channel, keepdims=1))
    surprise = b.op("Mul", share, b.op("Log", b.op("Max", share, tiny)))
    scale = b.const(-1.0 / np.log(len(label_ids) + 1), np.float32)
    uncertainty = b.op("Mul", b.op("ReduceSum", surprise, channel, keepdims=0), scale)
    rows, cols = _resize_matrix(b, sizes[0], sizes[2]), _resize_matrix(b, sizes[1], sizes[3])
    zero = b.const(0.0, np.float32)
    b.op("Clip", _resize(b, uncertainty, rows, cols), zero, one, out="uncertainty")
    b.op("Clip", _resize(b, p, rows, cols), zero, one, out="probabilities")
    empty = b.op("Sub", one, b.op("ReduceMax", "probabilities", channel, keepdims=1))
    index = b.op("ArgMax", b.op("Concat", empty, "probabilities", axis=1), axis=1, keepdims=0)
    # TensorRT takes uint8 as the type of an output and of nothing before it.
    b.op("Cast", b.op("Gather", b.const(ids_in_masks(label_ids), np.int32), index), to=TensorProto.UINT8, out="labels")
