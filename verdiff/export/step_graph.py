"""The ``step`` graph: a denoiser with one row of the sampler's table folded in, so that x never leaves the device.

    x_next = a x + b x0hat + c prior + d noise + e previous,   row = (a, b, c, d, e)

The runtime makes the same graph without onnx where ONNX Runtime drives a GPU (runtime/backends/step_graph.py); here it
has the checks, names and types that a TensorRT build wants.

The row is an input: one engine serves every sampler, every number of steps and every row. It is made when an engine
is built and is never part of a bundle.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from verdiff.errors import BundleError
from verdiff.export.builder import GraphBuilder, make_model, tensor_info

TERMS = ("x", "x0hat", "prior", "noise", "previous")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def build_step(denoiser: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the update into a ``denoiser`` graph, whatever precision that computes in.

    Inputs: ``x`` [N, K, H, W], ``timestep`` [N], ``prior`` [N, K, H, W], the features in the denoiser's own types,
    ``row`` [5], ``noise`` [N, K, H, W] and ``previous`` [N, K, H, W], the x0hat of the step before. Outputs: ``x_next``
    and ``x0hat`` [N, K, H, W]. All are float32 but the features, and so is the update's arithmetic, each sum from left
    to right as in :func:`verdiff.diffusion.loop.run_loop`.

    ``noise`` and ``previous`` must hold finite numbers even where their coefficient is zero: nothing is left out.

    Raises:
        BundleError: The graph is no denoiser.
    """
    inputs = {value.name: value for value in denoiser.graph.input}
    _check(denoiser, inputs)
    b = GraphBuilder("step/")
    maps = _axes(inputs["x"])
    connected = {
        name: _as(b, name, _kind(value)) if not name.startswith("feature_") else name for name, value in inputs.items()
    }
    result = b.inline(denoiser, connected, "denoiser/")["x0hat"]
    for node in b.nodes:
        # Nodes without a name would all be called by the prefix; runtimes refuse two of one name.
        node.name = node.name if not node.name.endswith("/") else node.name + node.output[0]
    out_kind = next(_kind(value) for value in denoiser.graph.output if value.name == "x0hat")
    kind = "Identity" if out_kind == TensorProto.FLOAT else "Cast"
    b.op(kind, result, out="x0hat", **({} if kind == "Identity" else {"to": TensorProto.FLOAT}))

    total = ""
    for index, term in enumerate(TERMS):
        product = b.op("Mul", term, b.op("Gather", "row", b.const(index, np.int64)))
        last = "x_next" if term == TERMS[-1] else None
        total = product if not total else b.op("Add", total, product, out=last)

    features = [value for name, value in inputs.items() if name.startswith("feature_")]
    graph = helper.make_graph(
        b.nodes,
        "step",
        [
            tensor_info("x", maps),
            tensor_info("timestep", maps[:1]),
            tensor_info("prior", maps),
            *features,
            tensor_info("row", [len(TERMS)]),
            tensor_info("noise", maps),
            tensor_info("previous", maps),
        ],
        [tensor_info("x_next", maps), tensor_info("x0hat", maps)],
        b.initializers,
    )
    model = make_model(graph)
    # The denoiser's operators mean what they mean in its own version of the operator set.
    del model.opset_import[:]
    model.opset_import.extend(denoiser.opset_import)
    onnx.checker.check_model(model, full_check=True)
    return model


def _check(denoiser: onnx.ModelProto, inputs: dict[str, onnx.ValueInfoProto]) -> None:
    outputs = {value.name: value for value in denoiser.graph.output}
    missing = [name for name in ("x", "timestep", "prior") if name not in inputs]
    missing += [name for name in ("x0hat",) if name not in outputs]
    others = [name for name in inputs if name not in ("x", "timestep", "prior") and not name.startswith("feature_")]
    wrong = [name for name, value in {**inputs, **outputs}.items() if _kind(value) not in FLOATS]
    if missing or others or wrong:
        problem = f"without {missing[0]}" if missing else f"with {(others or wrong)[0]}, which no denoiser has so"
        raise BundleError(
            f"a denoiser graph {problem}",
            "inputs x, timestep, prior and feature_0, feature_1, ...; output x0hat; all of floating point",
            "export the model again with 'verdiff export'",
        )


def _kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _axes(value: onnx.ValueInfoProto) -> list[str | int | None]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _as(b: GraphBuilder, name: str, kind: int) -> str:
    """A float32 input in the type that the denoiser wants."""
    return name if kind == TensorProto.FLOAT else b.op("Cast", name, to=kind)
