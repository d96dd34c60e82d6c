"""An exported bundle is what PyTorch computed, at any size and batch, and a wrong one is never written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from verdiff.bundle import Defaults, open_bundle, resolve_model
from verdiff.diffusion import make_table
from verdiff.errors import DataError, VerificationError
from verdiff.export import exporting, from_run
from verdiff.export.builder import GraphBuilder, make_model, tensor_info
from verdiff.export.golden import phantom, torch_reference
from verdiff.export.pipeline import CONTRACT_VERSION, _resize_matrix, build_pipeline
from verdiff.export.torch_graphs import round_weights_to_half
from verdiff.imaging.resample import resize_matrix
from verdiff.options import ExportOptions
from verdiff.runtime import Segmenter
from verdiff.train.checkpoint import load_network
from verdiff.train.config import RunConfig
from verdiff.train.distill import digest, distillation_kind


def export(run: Path, output: Path, **options: object) -> None:
    exporting.run(run, ExportOptions(output, **options), say=lambda line: None)  # type: ignore[arg-type]


def session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def test_the_bundle_holds_everything_the_design_names(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    manifest = bundle.manifest
    assert set(manifest.files) == {
        "graphs/prior.fp32.onnx", "graphs/denoiser.fp32.onnx", "graphs/pipeline.fp32.onnx", "golden/golden.npz",
    }  # fmt: skip
    assert [(label.id, label.name) for label in manifest.labels] == [(1, "vertebra"), (2, "disc")]
    assert (manifest.model_id, manifest.multiple, manifest.weights_stored) == ("toy", 4, "float16")
    assert manifest.training["fold"] == 0 and manifest.training["validation_cases"] == ["toy3"]
    golden = bundle.golden()
    stages = {"prior", "feature_0", "noise", "x_start", "x0hat_0", "x0hat_1"}
    assert {"image", "labels", "uncertainty", *stages} <= set(golden)


@pytest.mark.parametrize(("count", "rows", "cols"), [(1, 16, 24), (3, 40, 12)])
def test_graphs_are_dynamic_in_batch_height_and_width(
    toy_run: Path, toy_bundle: Path, count: int, rows: int, cols: int
) -> None:
    net, checkpoint = load_network(toy_run)
    round_weights_to_half(net)
    image = np.random.default_rng(0).uniform(-1, 1, (count, 1, rows, cols)).astype(np.float32)
    table = checkpoint.config.sampling.table(checkpoint.config.process.build())
    expected = torch_reference(net, checkpoint.config, table, image)
    bundle = open_bundle(toy_bundle)
    prior, *features = session(bundle.graph("prior")).run(None, {"image": image})
    assert np.abs(prior - expected["prior"]).max() < 2e-4
    feed = {f"feature_{index}": feature for index, feature in enumerate(features)}
    feed |= {"x": expected["x_start"], "prior": prior}
    feed["timestep"] = np.full(count, table.timesteps[0], np.float32)
    (x0hat,) = session(bundle.graph("denoiser")).run(None, feed)
    assert np.abs(x0hat - expected["x0hat_0"]).max() < 2e-4


@pytest.mark.parametrize("unrolled", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
def test_the_pipeline_takes_any_deterministic_table_and_several_samples(
    toy_bundle: Path, sampler: str, unrolled: bool
) -> None:
    bundle = open_bundle(toy_bundle)
    segmenter = Segmenter.load(toy_bundle)
    process = RunConfig.from_dict({"process": {"signal_scale": 0.5}}).process.build()
    table = make_table(process, sampler=sampler, steps=4)  # type: ignore[arg-type]
    graphs = {role: onnx.load_from_string(bundle.graph(role)) for role in ("prior", "denoiser")}
    model = build_pipeline(graphs["prior"], graphs["denoiser"], table, (1, 2), model_id="toy", unrolled=unrolled)
    assert unrolled is ("Loop" not in {node.op_type for node in model.graph.node})
    pipeline = session(model.SerializeToString())
    rng = np.random.default_rng(1)
    slices = rng.uniform(0, 100, (2, 24, 20)).astype(np.float32)
    noise = rng.standard_normal((3, 2, 2, 24, 20)).astype(np.float32)
    feed = {"slices": slices, "bounds": np.array([0, 100], np.float32), "size": np.array([24, 20]), "noise": noise}
    labels, probabilities, _ = pipeline.run(["labels", "probabilities", "uncertainty"], feed)
    from verdiff.diffusion import fuse_mean, run_loop

    f, features = segmenter.backend.prior((slices / 50 - 1)[:, None])
    drawn = [
        run_loop(lambda x, t: segmenter.backend.denoise(x, t, f, features), table, f, lambda step, m=m: noise[m])  # type: ignore[misc]
        for m in range(3)
    ]
    assert np.abs(probabilities - fuse_mean(np.stack(drawn)).probabilities).max() < 1e-4
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1, 2}


def test_the_pipeline_says_what_it_is_and_what_its_inputs_and_outputs_mean(toy_bundle: Path) -> None:
    model = onnx.load_from_string(open_bundle(toy_bundle).graph("pipeline"))
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert said == {"model_id": "toy", "contract_version": str(CONTRACT_VERSION)}
    assert model.graph.name == "pipeline" and "docs/contract.md" in model.graph.doc_string
    assert all(value.doc_string for value in (*model.graph.input, *model.graph.output))


def test_the_pipeline_holds_no_float64_which_browsers_and_tensorrt_lack(toy_bundle: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(open_bundle(toy_bundle).graph("pipeline")))
    graph = model.graph
    values = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)]
    assert len(values) > 100 and onnx.TensorProto.DOUBLE not in values
    assert onnx.TensorProto.DOUBLE not in [tensor.data_type for tensor in graph.initializer]


def test_the_resampling_of_the_graph_is_that_of_the_runtime_to_the_last_bit() -> None:
    b = GraphBuilder()
    matrix = _resize_matrix(b, "n_out", "n_in")
    sizes = [tensor_info(name, [1], onnx.TensorProto.INT64) for name in ("n_out", "n_in")]
    graph = onnx.helper.make_graph(b.nodes, "matrix", sizes, [tensor_info(matrix, [None, None])], b.initializers)
    run = session(make_model(graph).SerializeToString()).run
    rng = np.random.default_rng(7)
    for n_out, n_in in [(1, 1), (1, 900), (320, 320), (4096, 16), *rng.integers(1, 700, (40, 2)).tolist()]:
        (found,) = run(None, {"n_out": np.array([n_out]), "n_in": np.array([n_in])})
        expected = resize_matrix(n_out, n_in)
        # Where whole numbers give zero, float64 may leave 1e-13 of rounding.
        np.testing.assert_array_equal(found, np.where(expected < 1e-10, 0, expected))


def test_the_runtime_gives_the_same_mask_as_the_pipeline_graph(toy_bundle: Path) -> None:
    segmenter, bundle = Segmenter.load(toy_bundle), open_bundle(toy_bundle)
    image = phantom(41, 30)[:, 0]
    raw = ((image + 1) * 100).astype(np.float32)
    direction = (0, 0, -1, 1, 0, 0, 0, -1, 0)
    result = segmenter.segment((raw, (1.0, 1.0, 3.0), direction), force=True)
    from verdiff.diffusion import noise_source

    low, high = np.percentile(raw, [0.5, 99.5])
    feed = {
        "slices": raw[::-1].copy(),
        "bounds": np.array([low, high], np.float32),
        "size": np.array([41, 30]),
        "noise": noise_source(35, slices=[0, 1], samples=[0, 0], shape=(2, 44, 32))(0)[None],
    }
    labels = session(bundle.graph("pipeline")).run(["labels"], feed)[0]
    # The runtime keeps probabilities in half precision; this barely trained model has many near one half.
    assert (labels[::-1] == result.labels).mean() > 0.998


def test_half_storage_halves_the_file_and_changes_no_number(toy_run: Path, toy_bundle: Path, tmp_path: Path) -> None:
    export(toy_run, tmp_path / "full", float32_weights=True)
    full, half = open_bundle(tmp_path / "full"), open_bundle(toy_bundle)
    assert full.manifest.weights_stored == "float32"
    graphs = [onnx.load_from_string(bundle.graph("prior")).graph for bundle in (full, half)]
    weights = [sum(tensor.ByteSize() for tensor in graph.initializer) for graph in graphs]
    assert weights[1] < 0.7 * weights[0]


def test_a_card_supplies_what_no_run_can_know(toy_run: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"version": "2.1.0", "limits": ["adults only"], "defaults": {"steps": 1}}), "utf-8")
    export(toy_run, tmp_path / "m.verdiff", card=card)
    manifest = open_bundle(tmp_path / "m.verdiff").manifest
    assert (manifest.version, manifest.limits, manifest.defaults.steps) == ("2.1.0", ("adults only",), 1)
    card.write_text(json.dumps({"author": "me"}), "utf-8")
    with pytest.raises(DataError, match="key 'author'"):
        from_run.read_card(card)


def test_a_distilled_bundle_says_what_it_was_taught_by(toy_run: Path) -> None:
    teacher, checkpoint = load_network(toy_run)
    facts = dataclasses.replace(checkpoint.facts, teacher=dict(distillation_kind(teacher, checkpoint).teacher))
    sampling = checkpoint.config.sampling
    table, defaults = sampling.table(checkpoint.config.process.build()), Defaults(**dataclasses.asdict(sampling))
    student, trained = (
        from_run.make_manifest(dataclasses.replace(checkpoint, facts=known), table, defaults, {}, False).training
        for known in (facts, checkpoint.facts)
    )
    assert student["distilled_from"] == {"iteration": 30, "weights_sha256": digest(checkpoint.ema)}
    assert "distilled_from" not in trained


def test_a_bundle_that_disagrees_with_the_network_is_not_written(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(net: torch.nn.Module, config: object) -> object:
        graphs = honest(net, config)  # type: ignore[arg-type]
        tensor = max(graphs["denoiser"].graph.initializer, key=lambda t: t.ByteSize())
        values = onnx.numpy_helper.to_array(tensor) * np.float32(1.02)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return graphs

    honest = from_run.export_networks
    monkeypatch.setattr(from_run, "export_networks", wrong)
    target = tmp_path / "m.verdiff"
    shutil.copy(resolve_model(), target)
    with pytest.raises(VerificationError, match="denoiser"):
        export(toy_run, target)
    assert target.read_bytes() == resolve_model().read_bytes() and list(tmp_path.iterdir()) == [target]


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a training run nor a bundle"):
        export(tmp_path, tmp_path / "m.verdiff")
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(DataError, match=r"neither best\.pt nor last\.pt"):
        export(tmp_path, tmp_path / "m.verdiff")


def test_a_bundle_alone_says_nothing_about_what_to_write(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to add to it"):
        export(toy_bundle, tmp_path / "m.verdiff")
    with pytest.raises(DataError, match="--card"):
        export(toy_bundle, tmp_path / "m.verdiff", precisions=("fp16",), card=tmp_path / "card.json")


def test_the_weights_of_an_unrolled_pipeline_are_there_once(toy_bundle: Path) -> None:
    bundle = open_bundle(toy_bundle)
    graphs = {role: onnx.load_from_string(bundle.graph(role)) for role in ("prior", "denoiser")}
    process = RunConfig.from_dict({"process": {"signal_scale": 0.5}}).process.build()
    parts = graphs["prior"], graphs["denoiser"]
    tables = [make_table(process, sampler="ddim", steps=n) for n in (2, 3)]
    sizes = [build_pipeline(*parts, t, (1, 2), model_id="toy", unrolled=True).ByteSize() for t in tables]
    weights = sum(tensor.ByteSize() for tensor in graphs["denoiser"].graph.initializer)
    nodes = sum(node.ByteSize() for node in graphs["denoiser"].graph.node)
    assert sizes[1] - sizes[0] < 2 * nodes + 0.1 * weights
