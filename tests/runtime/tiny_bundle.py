"""A whole bundle that needs no training: networks of a few multiplications, as ONNX graphs and again in numpy.

Prior: the image, averaged over 3 x 3 pixels, through tanh at three thresholds, one a structure. Denoiser: tanh of a
mix of the prior, x_t, the feature and the timestep, averaged over 3 x 3 pixels. Bright pixels become
the first, middling ones the second, dark ones the third.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.bundle.factory import make_defaults
from verdiff.bundle import GOLDEN, Feature, Label, Manifest, graph_name, pack_golden, write_bundle
from verdiff.diffusion import (
    Process,
    Schedule,
    StepState,
    background_and_labels,
    fuse_mean,
    make_table,
    noise_source,
    run_loop,
)

Maps = NDArray[np.float32]

LABELS = (Label(1, "vertebra"), Label(2, "disc"), Label(7, "canal", "61853006"))
THRESHOLDS = np.array([0.2, 0.0, -0.6], np.float32)[None, :, None, None]
GAINS = np.array([6.0, 2.0, -6.0], np.float32)[None, :, None, None]
KERNEL = np.full((1, 1, 3, 3), 1 / 9, np.float32)
MULTIPLE = 4


def _average(maps: Maps) -> Maps:
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(1, 1), (1, 1)])
    rows, cols = maps.shape[-2:]
    total = np.zeros_like(maps)
    for i in range(3):
        for j in range(3):
            total += padded[..., i : i + rows, j : j + cols] * np.float32(1 / 9)
    return total


class NumpyBackend:
    """The tiny networks in plain numpy: the reference the device backends are compared with."""

    name, version, device, precision, threads, lanes = "numpy", np.__version__, "cpu", "fp32", 1, 1

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.calls: list[int] = []

    @property
    def lane(self) -> NumpyBackend:
        return self

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.calls.append(len(image))
        smooth = _average(image)
        prior = np.tanh(GAINS * (smooth - THRESHOLDS))
        return prior.astype(np.float32), (smooth,)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        self.calls.append(len(x))
        mixed = np.float32(0.9) * prior + np.float32(0.3) * x + np.float32(0.2) * features[0]
        late = np.float32(1) - np.float32(timestep) * np.float32(5e-4)
        smooth = _average(mixed.reshape(-1, 1, *x.shape[2:])).reshape(x.shape)
        return np.tanh(np.float32(3) * late * smooth).astype(np.float32)


def _tensor(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(name: str, nodes: list, inputs: list, outputs: list, constants: dict[str, NDArray]) -> bytes:
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def prior_graph(*, features: bool = True) -> bytes:
    """image -> prior, feature_0; without ``features`` the prior alone."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["feature_0"], pads=[1, 1, 1, 1]),
        helper.make_node("Sub", ["feature_0", "thresholds"], ["above"]),
        helper.make_node("Mul", ["above", "gains"], ["steep"]),
        helper.make_node("Tanh", ["steep"], ["prior"]),
    ]
    return _model(
        "prior",
        nodes,
        [_tensor("image", ["N", 1, "H", "W"])],
        [_tensor("prior", ["N", 3, "H", "W"]), _tensor("feature_0", ["N", 1, "H", "W"])][: 1 + features],
        {"kernel": KERNEL, "thresholds": THRESHOLDS, "gains": GAINS},
    )


def denoiser_graph() -> bytes:
    """x, timestep, prior, feature_0 -> x0hat."""
    nodes = [
        helper.make_node("Mul", ["prior", "w_prior"], ["a"]),
        helper.make_node("Mul", ["x", "w_x"], ["b"]),
        helper.make_node("Mul", ["feature_0", "w_feature"], ["c"]),
        helper.make_node("Add", ["a", "b"], ["ab"]),
        helper.make_node("Add", ["ab", "c"], ["mixed"]),
        helper.make_node("Conv", ["mixed", "kernels"], ["smooth"], pads=[1, 1, 1, 1], group=3),
        helper.make_node("Mul", ["timestep", "slope"], ["early"]),
        helper.make_node("Sub", ["three", "early"], ["late"]),
        helper.make_node("Reshape", ["late", "column"], ["gain"]),
        helper.make_node("Mul", ["smooth", "gain"], ["steep"]),
        helper.make_node("Tanh", ["steep"], ["x0hat"]),
    ]
    maps = ["N", 3, "H", "W"]
    return _model(
        "denoiser",
        nodes,
        [
            _tensor("x", maps),
            _tensor("timestep", ["N"]),
            _tensor("prior", maps),
            _tensor("feature_0", ["N", 1, "H", "W"]),
        ],
        [_tensor("x0hat", maps)],
        {
            "w_prior": np.float32(0.9),
            "w_x": np.float32(0.3),
            "w_feature": np.float32(0.2),
            "kernels": np.repeat(KERNEL, 3, axis=0),
            "slope": np.float32(3 * 5e-4),
            "three": np.float32(3),
            "column": np.array([-1, 1, 1, 1], np.int64),
        },
    )


def half_graph(graph: bytes) -> bytes:
    """The same with its first convolution in FLOAT16, and the feature between the two graphs too."""
    model = onnx.load_from_string(graph)
    nodes = model.graph.node
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.name == "feature_0":
            tensor.type.tensor_type.elem_type = TensorProto.FLOAT16
    for i, node in enumerate(list(nodes)):
        if node.op_type == "Conv":
            before = helper.make_node("Cast", [node.input[0]], ["half_in"], to=TensorProto.FLOAT16)
            weights = helper.make_node("Cast", [node.input[1]], ["half_kernel"], to=TensorProto.FLOAT16)
            node.input[:] = ["half_in", "half_kernel"]
            whole = "feature_0" if node.output[0] == "feature_0" else "half_out"
            after = helper.make_node("Cast", [whole], [f"{node.output[0]}_float"], to=TensorProto.FLOAT)
            replaced, node.output[0] = node.output[0], whole
            for later in list(nodes)[i + 1 :]:
                later.input[:] = [f"{replaced}_float" if name == replaced else name for name in later.input]
            nodes.insert(i + 1, after)
            nodes.insert(i, weights)
            nodes.insert(i, before)
            break
    if any(tensor.name == "feature_0" for tensor in model.graph.input):
        for node in nodes:
            node.input[:] = ["feature_float" if name == "feature_0" else name for name in node.input]
        nodes.insert(0, helper.make_node("Cast", ["feature_0"], ["feature_float"], to=TensorProto.FLOAT))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def tiny_manifest(**changes: object) -> Manifest:
    """The manifest of the tiny model; ``changes`` replace its fields."""
    process = Process("verdiff", Schedule("linear", 1000), 0.5)
    manifest = Manifest(
        model_id="tiny-mr",
        version="1.2.3",
        labels=LABELS,
        modality="MR",
        view="sagittal",
        spacing_mm=1.0,
        intensity={"kind": "percentile", "low": 0.5, "high": 99.5},
        multiple=MULTIPLE,
        max_pixels=512 * 512,
        process=process.to_dict(),
        table=make_table(process, sampler="ddim", steps=3).to_dict(),
        defaults=make_defaults(3, 2),
        features=(Feature("feature_0", 1, 1),),
        prediction="x0",
        weights_stored="float32",
        training={"statement": "no training: written down for the tests"},
        metrics={},
        intended_use="tests",
        limits=("knows bright from dark",),
        files={},
        suitability={"pixel_spacing_mm": [0.8, 1.2], "slice_spacing_mm": [1.0, 5.0]},
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


# What a manifest says of a model that answers in one pass, as the exporter writes it.
SINGLE_PASS: dict[str, Any] = {
    "process": {},
    "table": {},
    "features": (),
    "defaults": make_defaults(0, 0),
}


def golden_arrays(manifest: Manifest) -> dict[str, NDArray]:
    """Every stage on a generated image, by the numpy backend."""
    backend = NumpyBackend()
    image = np.clip(noise_source(1, slices=[0, 1], samples=[0, 0], shape=(1, 32, 24))(0), -1, 1)
    image = np.clip(3 * _average(image), -1, 1)
    prior, features = backend.prior(image)
    if not manifest.table:
        return {"image": image, "prior": prior, **_answer(manifest, prior)}
    source = noise_source(35, slices=[0, 1], samples=[0, 0], shape=prior.shape[1:])
    kept: dict[str, NDArray] = {"image": image, "prior": prior, "feature_0": features[0], "noise": source(0)[None]}

    def keep(state: StepState) -> None:
        if state.row == 0:
            kept["x_start"] = state.x.copy()
        kept[f"x0hat_{state.row}"] = state.x0hat

    table = manifest.table
    x0hat = run_loop(lambda x, t: backend.denoise(x, t, prior, features), table, prior, source, on_step=keep)
    return {**kept, **_answer(manifest, x0hat)}


def _answer(manifest: Manifest, mask: Maps) -> dict[str, NDArray]:
    fused = fuse_mean(mask[None])
    ids = np.array([0, *(label.id for label in manifest.labels)], np.uint8)
    return {"labels": ids[background_and_labels(fused.probabilities)], "uncertainty": fused.uncertainty}


def write_tiny(
    path: Path, *, denoiser: bool = True, golden: dict[str, NDArray] | None = None, **changes: object
) -> Path:
    """Write the tiny bundle; without ``denoiser`` it is a single-pass model."""
    manifest = tiny_manifest(**(changes if denoiser else {**SINGLE_PASS, **changes}))
    files = {graph_name("prior"): prior_graph(features=denoiser)}
    if denoiser:
        files[graph_name("denoiser")] = denoiser_graph()
    files[GOLDEN] = pack_golden(golden_arrays(manifest) if golden is None else golden)
    write_bundle(path, manifest, files, as_zip=path.suffix == ".verdiff")
    return path


def write_tiny_half(path: Path, *, golden: dict[str, NDArray] | None = None, **changes: object) -> Path:
    """The tiny bundle with its graphs in fp32 and in fp16, whose feature is FLOAT16 and all else FLOAT."""
    manifest = tiny_manifest(**changes)
    graphs = {"prior": prior_graph(), "denoiser": denoiser_graph()}
    files = {graph_name(role): graph for role, graph in graphs.items()}
    files |= {graph_name(role, "fp16"): half_graph(graph) for role, graph in graphs.items()}
    files[GOLDEN] = pack_golden(golden_arrays(manifest) if golden is None else golden)
    write_bundle(path, manifest, files, as_zip=True)
    return path
