"""The networks as ONNX graphs: ``prior`` (once a slice) and ``denoiser`` (once a step), dynamic in N, H and W."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from verdiff.export.builder import IR_VERSION, OPSET
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

SMALLEST_STORED_AS_HALF = 64


class PriorGraph(nn.Module):
    """image [N, 1, H, W] -> prior [N, K, H, W] in [-1, 1], then the condition features."""

    def __init__(self, net: SegmentationModel) -> None:
        super().__init__()
        self.net = net.prior

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.net(image)
        return (2 * torch.sigmoid(output.logits) - 1, *output.features)


def round_weights_to_half(net: nn.Module) -> None:
    """Round, in place, every weight that will be stored as float16, so that storing it loses nothing."""
    for parameter in net.parameters():
        if parameter.numel() >= SMALLEST_STORED_AS_HALF:
            parameter.data = parameter.data.half().float()


def export_networks(net: SegmentationModel, config: RunConfig) -> dict[str, onnx.ModelProto]:
    """``prior`` and, of a diffusion system, ``denoiser`` of an evaluation-mode network as ONNX models in float32."""
    multiple, strides = config.network.multiple, sorted(config.network.features)
    high, wide = 4 * multiple, 3 * multiple
    prior = PriorGraph(net).eval()
    image = torch.zeros(2, 1, high, wide)
    with torch.no_grad():
        f, *features = prior(image)
    names = [f"feature_{index}" for index in range(len(features))]
    rows, cols = Dim("rows", min=1, max=1024), Dim("cols", min=1, max=1024)

    def axes(stride: int) -> dict[int, Any]:
        return {0: "N", 2: (multiple // stride) * rows, 3: (multiple // stride) * cols}

    full = axes(1)
    graphs = {"prior": export_graph(prior, (image,), ["image"], ["prior", *names], (full,))}
    if net.denoiser is not None:
        step = (torch.zeros_like(f), torch.full((2,), 500.0), f, *features)
        graphs["denoiser"] = export_graph(
            X0Denoiser.of(net, config.process).eval(),
            step,
            ["x", "timestep", "prior", *names],
            ["x0hat"],
            (full, {0: "N"}, full, tuple(axes(stride) for stride in strides)),
        )
    return graphs


def export_graph(
    module: nn.Module, inputs: tuple[Any, ...], names: list[str], outputs: list[str], shapes: Any
) -> onnx.ModelProto:
    """``module`` as one ONNX model; ``shapes`` as ``dynamic_shapes`` of ``torch.onnx.export``."""
    with _quiet():
        program = torch.onnx.export(
            module, inputs, dynamo=True, input_names=names, output_names=outputs, dynamic_shapes=shapes,
            opset_version=OPSET, external_data=False, verbose=False,
        )  # fmt: skip
    if program is None:  # torch's signature allows it; with dynamo=True it does not happen
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model_proto
    model.ir_version = IR_VERSION
    model.producer_name = "verdiff"
    # Source positions and module paths of the exporting machine are of no use to anyone who loads the graph.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:], model.graph.value_info[:]
    model.graph.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    _name_axes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_axes(model: onnx.ModelProto) -> None:
    """Readable axis names: the exporter writes products such as ``16*rows``, which some runtimes refuse to parse."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param not in ("", "N"):
                dim.dim_param = dim.dim_param.replace("*", "x")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its stages on standard output and warns about packages nobody asked for."""
    before = logging.root.manager.disable
    # Also keeps torch's tracer from writing megabytes for whoever listens to debug messages.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
