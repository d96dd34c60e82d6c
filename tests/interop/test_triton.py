"""A bundle as a model repository of Triton: by Triton's own definitions, and by what its server does with them."""

from __future__ import annotations

import shlex
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.runtime.tiny_bundle import SINGLE_PASS, golden_arrays, prior_graph, tiny_manifest, write_tiny
from tests.runtime.tiny_volume import write_tiny_volume
from verdiff.bundle import GOLDEN, graph_name, open_bundle, pack_golden, resolve_model, write_bundle
from verdiff.cli import app
from verdiff.errors import DataError, OutputError
from verdiff.export.pipeline import build_pipeline
from verdiff.interop.triton import CUDA, MOST_IMAGES, write_repository

KINDS = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16, "TYPE_INT64": np.int64, "TYPE_UINT8": np.uint8}
NAMES = ["spine-mr-denoiser", "spine-mr-pipeline", "spine-mr-prior"]


def definitions() -> ModuleType:
    """Triton's protocol buffers, from its client: the one module, since the package starts gRPC."""
    there = find_spec("tritonclient")
    if there is None or not there.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    path = Path(there.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = spec_from_file_location("verdiff_tests_model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRITON = definitions()


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *words])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's."""
    folder = tmp_path_factory.mktemp("served") / "models of ours"
    code, said = run("--triton", str(folder), "--triton-version", "3")
    assert code == 0, said
    flat = " ".join(said.split())
    assert "spine-mr-prior, spine-mr-denoiser, spine-mr-pipeline; version 3, fp32" in flat
    assert f"--model-repository={shlex.quote(str(folder))}" in said.replace("\n", "")
    return folder


@pytest.fixture(scope="module")
def configs(repository: Path) -> dict[str, Any]:
    """The configuration of every model, parsed by Triton's definitions: a field it does not know is an error."""
    found = {}
    for folder in sorted(repository.iterdir()):
        found[folder.name] = text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), TRITON.ModelConfig())
    return found


def session(repository: Path, name: str) -> Any:
    return onnxruntime.InferenceSession(repository / name / "3" / "model.onnx", providers=["CPUExecutionProvider"])


def warm_up(repository: Path, config: Any) -> dict[str, NDArray[Any]]:
    """The arrays of its warm-up request, as the server hands them to the graph."""
    (request,) = config.model_warmup
    declared = {each.name: each for each in config.input}
    assert set(request.inputs) == set(declared) and request.batch_size == 1
    given = {}
    for name, each in request.inputs.items():
        kind = TRITON.DataType.Name(each.data_type)
        assert each.data_type == declared[name].data_type
        data = (repository / config.name / "warmup" / each.input_data_file).read_bytes()
        array: NDArray[Any] = np.frombuffer(data, KINDS[kind])
        assert array.size == np.prod(each.dims), name
        reshaped = list(declared[name].reshape.shape) if declared[name].HasField("reshape") else list(each.dims)
        given[name] = array.reshape([1, *reshaped] if config.max_batch_size else reshaped)
    return given


def test_every_model_is_where_triton_looks_for_it(repository: Path, configs: dict[str, Any]) -> None:
    assert list(configs) == NAMES
    for name, config in configs.items():
        assert (config.name, config.backend, config.platform) == (name, "onnxruntime", "")
        assert sorted(path.name for path in (repository / name).iterdir()) == ["3", "config.pbtxt", "warmup"]
        assert [path.name for path in (repository / name / "3").iterdir()] == ["model.onnx"]
        assert config.version_policy.latest.num_versions == 1
        (group,) = config.instance_group
        assert (group.count, group.kind) == (1, TRITON.ModelInstanceGroup.KIND_AUTO)
        manifest = open_bundle(resolve_model()).manifest
        assert config.parameters["model"].string_value == f"spine-mr {manifest.version}"
        assert config.parameters["manifest_sha256"].string_value == open_bundle(resolve_model()).manifest_sha256


def test_the_graphs_are_the_bundles_own(repository: Path) -> None:
    bundle = open_bundle(resolve_model())
    for role in ("prior", "denoiser", "pipeline"):
        assert (repository / f"spine-mr-{role}" / "3" / "model.onnx").read_bytes() == bundle.graph(role)


def test_what_is_declared_is_what_the_graph_takes_and_gives(repository: Path, configs: dict[str, Any]) -> None:
    for name, config in configs.items():
        graph, batch = session(repository, name), [] if config.max_batch_size == 0 else [-1]
        for declared, there in ((config.input, graph.get_inputs()), (config.output, graph.get_outputs())):
            assert [each.name for each in declared] == [each.name for each in there]
            for each, tensor in zip(declared, there, strict=True):
                kind = KINDS[TRITON.DataType.Name(each.data_type)]
                assert tensor.type == f"tensor({np.dtype(kind).name.replace('float32', 'float')})"
                assert len(each.dims) >= 1, "Triton has no tensor without axes"
                dims = list(each.reshape.shape) if each.HasField("reshape") else list(each.dims)
                lengths = [length if isinstance(length, int) else -1 for length in tensor.shape]
                assert [*batch, *dims] == lengths, each.name


def test_requests_are_joined_only_where_every_tensor_has_the_batch_first(configs: dict[str, Any]) -> None:
    joined = {name: (config.max_batch_size, config.HasField("dynamic_batching")) for name, config in configs.items()}
    assert joined == {
        "spine-mr-prior": (MOST_IMAGES, True),
        "spine-mr-denoiser": (MOST_IMAGES, True),
        "spine-mr-pipeline": (0, False),
    }


def test_fp32_is_fp32_on_a_gpu(configs: dict[str, Any]) -> None:
    for config in configs.values():
        (cuda,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert (cuda.name, dict(cuda.parameters)) == ("cuda", CUDA)
        assert cuda.parameters["use_tf32"] == "0"


def test_the_warm_up_is_the_golden_image_and_gives_its_golden_answers(
    repository: Path, configs: dict[str, Any]
) -> None:
    golden = open_bundle(resolve_model()).golden()
    answers = {}
    for name, config in configs.items():
        answers[name] = session(repository, name).run(None, warm_up(repository, config))
    np.testing.assert_allclose(answers["spine-mr-prior"][0], golden["prior"][:1], atol=1e-3)
    np.testing.assert_allclose(answers["spine-mr-denoiser"][0], golden["x0hat_0"][:1], atol=1e-3)
    assert np.mean(answers["spine-mr-pipeline"][0] == golden["labels"]) >= 0.9999


def test_joined_requests_get_the_answers_of_single_ones(repository: Path, configs: dict[str, Any]) -> None:
    given = warm_up(repository, configs["spine-mr-denoiser"])
    graph = session(repository, "spine-mr-denoiser")
    other = {name: array if name == "timestep" else -array for name, array in given.items()}
    other["timestep"] = given["timestep"] / 2
    joined = graph.run(None, {name: np.concatenate([given[name], other[name]]) for name in given})[0]
    for at, single in enumerate((given, other)):
        np.testing.assert_allclose(joined[at], graph.run(None, single)[0][0], atol=1e-4)


def test_a_model_without_a_denoiser_is_served_without_one(tmp_path: Path) -> None:
    manifest, prior = tiny_manifest(**SINGLE_PASS), onnx.load_from_string(prior_graph(features=False))
    for number, node in enumerate(prior.graph.node):
        node.name = f"node_{number}"
    ids = tuple(label.id for label in manifest.labels)
    whole = build_pipeline(prior, None, None, ids, model_id="tiny-mr", multiple=4)
    files = {graph_name("prior"): prior.SerializeToString(), graph_name("pipeline"): whole.SerializeToString()}
    golden = golden_arrays(manifest)
    write_bundle(tmp_path / "tiny.verdiff", manifest, {**files, GOLDEN: pack_golden(golden)}, as_zip=True)
    models = write_repository(open_bundle(tmp_path / "tiny.verdiff"), tmp_path / "models")
    assert [model.name for model in models] == ["tiny-mr-prior", "tiny-mr-pipeline"]
    config = text_format.Parse(models[1].config, TRITON.ModelConfig())
    labels = onnxruntime.InferenceSession(models[1].graph).run(["labels"], warm_up(tmp_path / "models", config))[0]
    assert np.mean(labels == golden["labels"]) >= 0.9999


def test_a_bundle_that_lacks_a_graph_is_refused_by_its_name(tmp_path: Path) -> None:
    tiny = open_bundle(write_tiny(tmp_path / "tiny.verdiff"))
    with pytest.raises(DataError, match="has no pipeline graph in fp32"):
        write_repository(tiny, tmp_path / "models")
    with pytest.raises(DataError, match="no prior and no denoiser and no pipeline graph in fp16") as caught:
        write_repository(tiny, tmp_path / "models", precision="fp16")
    assert "'verdiff export --fp16'" in caught.value.remedy
    volume = open_bundle(write_tiny_volume(tmp_path / "volume.verdiff"))
    with pytest.raises(DataError, match="since it takes volumes"):
        write_repository(volume, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_place_that_is_taken_is_left_as_it_is(tmp_path: Path) -> None:
    bundle = open_bundle(resolve_model())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other-model").mkdir()
    for name, said in (("file", "a file at"), ("full", "that is not empty"), ("file/below", "cannot be written")):
        with pytest.raises(OutputError, match=said):
            write_repository(bundle, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["other-model"]
    (tmp_path / "empty").mkdir()
    write_repository(bundle, tmp_path / "empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == NAMES
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".verdiff")] == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verdiff.interop.triton.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_repository(open_bundle(resolve_model()), tmp_path / "models")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--triton", "models", "--bf16"), "--bf16 with --triton"),
        (("--triton", "models", "-o", "x.verdiff", "--release", "2.0.0"), "--output, --release with --triton"),
        (("--triton-version", "2"), "--triton-version says"),
        (("--triton", "models", "--triton-version", "0"), "greater than or equal to 1"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused_while_parsing(words: tuple[str, ...], said: str) -> None:
    code, output = run(*words)
    assert code == 2
    assert said in " ".join(output.replace("│", " ").split())
