"""Real engines of the default model, built with TensorRT-RTX without a GPU: types, shapes, sizes, proofs."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from tests.engines.build.conftest import SIZES
from tests.engines.build.graphs import convolution, decoder, quantised
from verdiff.bundle import Bundle, graph_name, open_bundle, resolve_model, write_bundle
from verdiff.engines import Bucket, Machine, read_engine, read_sidecar
from verdiff.engines.build import BuildOptions, Built, build_engines, building
from verdiff.engines.build.building import Target, build_plan, make_key
from verdiff.engines.build.graphs import EngineGraph, profile_of
from verdiff.engines.build.timings import TimingCache
from verdiff.engines.library import Library
from verdiff.errors import BackendError
from verdiff.export.precision import to_half
from verdiff.nvidia import Gpu

Engines = dict[tuple[str, str], Built]
FEATURES = [f"feature_{i}" for i in range(4)]
ROLES = ("prior", "step")
PRECISIONS = ("fp32", "fp16")


def types(built: Built, mode: str) -> dict[str, str]:
    return {tensor.name: tensor.dtype for tensor in built.sidecar.io if tensor.mode == mode}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_outputs_are_those_of_the_contract(engines: Engines, precision: str) -> None:
    features = dict.fromkeys(FEATURES, "float16" if precision == "fp16" else "float32")
    single = dict.fromkeys(["x", "timestep", "prior", "row", "noise", "previous"], "float32")
    assert types(engines["prior", precision], "input") == {"image": "float32"}
    assert types(engines["prior", precision], "output") == {"prior": "float32", **features}
    assert types(engines["step", precision], "input") == {**single, **features}
    assert types(engines["step", precision], "output") == {"x_next": "float32", "x0hat": "float32"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_is_whole_and_described(engines: Engines, both: Bundle, role: str, precision: str) -> None:
    built = engines[role, precision]
    sidecar, stored = built.sidecar, {"prior": "prior", "step": "denoiser"}[role]
    assert built.new
    assert read_sidecar(built.path) == sidecar
    assert built.path.stat().st_size == sidecar.plan_bytes
    assert sidecar.key.graph_sha256 == both.manifest.files[graph_name(stored, precision)]
    assert [profile.bucket for profile in sidecar.key.profiles] == [Bucket(*size, 1, 4, 4) for size in SIZES]
    assert sidecar.key.sm == "80,86,89,120,121"
    assert sidecar.build_seconds > 0
    assert sidecar.gpu_name == sidecar.driver_version == ""
    machine = Machine("tensorrt_rtx", sidecar.key.trt_version, "13", "580.65.06", (13, 0), "89", "RTX 4090")
    assert len(read_engine(built.path, machine)) == sidecar.plan_bytes


@pytest.mark.parametrize("role", ROLES)
def test_weights_of_an_fp16_engine_take_half_the_room(engines: Engines, role: str) -> None:
    single, half = (engines[role, precision].sidecar for precision in PRECISIONS)
    assert single.weight_bytes is not None and half.weight_bytes is not None
    # A few islands stay in FP32.
    assert 0.5 <= half.weight_bytes / single.weight_bytes < 0.65
    assert half.plan_bytes < single.plan_bytes
    assert half.device_memory_bytes is not None and single.device_memory_bytes is not None
    assert half.device_memory_bytes < single.device_memory_bytes


@pytest.mark.parametrize("role", ROLES)
def test_the_sidecar_says_how_the_precision_was_proven(engines: Engines, role: str) -> None:
    convolutions = {"prior": 40, "step": 43}[role]
    for precision, kind in (("fp32", "float32"), ("fp16", "float16")):
        proof = "\n".join(engines[role, precision].sidecar.proof)
        assert f"network: {convolutions} of {convolutions} convolutions found by name" in proof
        assert f" in {kind}" in proof
        assert "network: inputs and outputs have the graph's types" in proof
        assert "builder: " in proof and "bytes of weights" in proof
        # No GPU, no engine to ask.
        assert "engine:" not in proof


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_unrolled_pipeline_is_one_engine(library: Library, both: Bundle, tmp_path: Path, precision: str) -> None:
    request = BuildOptions(str(both.path), precision, ("pipeline",), sizes=(SIZES[0],), batch=2, cache=tmp_path / "c")
    (built,) = build_engines(request)
    outputs = types(built, "output")
    assert outputs == {"labels": "uint8", "probabilities": "float32", "uncertainty": "float32"}
    assert types(built, "input") == {"slices": "float32", "bounds": "float32", "size": "int64", "noise": "float32"}
    (profile,) = built.sidecar.key.profiles
    assert profile.bucket.size == "64x48"
    assert {each.name for each in profile.ranges if each.values} == {"size"}


def test_a_model_of_one_pass_is_an_engine_of_its_prior_or_of_its_pipeline(
    library: Library, single_pass: Path, tmp_path: Path
) -> None:
    request = BuildOptions(str(single_pass), sizes=(SIZES[0],), batch=4, cache=tmp_path / "c")
    (prior,) = build_engines(request)
    assert prior.sidecar.key.role == "prior"
    assert (types(prior, "input"), types(prior, "output")) == ({"image": "float32"}, {"prior": "float32"})
    (pipeline,) = build_engines(replace(request, roles=("pipeline",)))
    assert types(pipeline, "input") == {"slices": "float32", "bounds": "float32", "size": "int64"}
    (profile,) = pipeline.sidecar.key.profiles
    # Nothing is sampled, so the batch counts slices.
    assert next(each for each in profile.ranges if each.name == "slices").maximum[0] == 4


def test_what_is_there_already_is_not_built_again(library: Library, tmp_path: Path) -> None:
    request = BuildOptions(roles=("prior",), sizes=(SIZES[0],), batch=1, cache=tmp_path / "c")
    said: list[str] = []
    (first,), (second,) = build_engines(request), build_engines(request, say=said.append)
    assert (first.new, second.new) == (True, False)
    assert second.sidecar == first.sidecar
    assert "there already" in said[0]
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-1])
    (third,) = build_engines(request)
    assert third.new, "a damaged plan is built again"
    (other,) = build_engines(replace(request, batch=2))
    assert other.new and other.path != first.path


def test_two_builds_of_one_engine_at_once_make_it_once(library: Library, tmp_path: Path) -> None:
    request = BuildOptions(roles=("prior",), sizes=(SIZES[0],), batch=1, cache=tmp_path / "c")
    with ThreadPoolExecutor(2) as pool:
        (first,), (second,) = pool.map(build_engines, (request, request))
    assert sorted((first.new, second.new)) == [False, True]
    assert first.sidecar == second.sidecar


def test_the_gpu_that_was_asked_for_is_the_one_that_is_used(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def set_current(self) -> None:
            chosen.append(self.index)
            if self.index == 2:
                raise RuntimeError("CUDA_ERROR_ECC_UNCORRECTABLE: an error\nand more")

    monkeypatch.setattr(building, "import_module", lambda name: SimpleNamespace(Device=Device))
    monkeypatch.setattr(building, "_deserialise", lambda *_: None)
    for index in (1, 2):
        gpu = Gpu(index, "NVIDIA GeForce RTX 4090", "89", 24 << 30, None)
        with pytest.raises(BackendError, match="cannot be used") if index == 2 else nullcontext() as caught:
            small(library, convolution(), tmp_path, gpu=gpu)
    assert chosen == [1, 2]
    assert "cuda:2 (NVIDIA GeForce RTX 4090)" in caught.value.found and "an error)" in caught.value.found


def small(library: Library, graph: EngineGraph, folder: Path, precision: str = "fp32", **options: object) -> tuple:
    """Build a small graph for SM 89, or for what ``options`` say."""
    manifest = open_bundle(resolve_model()).manifest
    progress = options.pop("progress", None)
    target = Target(sms=("89",), **options)  # type: ignore[arg-type]
    profiles = [profile_of(graph, Bucket(64, 48, 1, 2, 2), manifest)]
    key = make_key("small", graph, precision, library, target, profiles)
    timings = TimingCache(folder, library, None)
    return build_plan(library, graph, key, target, arguments=(), timings=timings, progress=progress)  # type: ignore[arg-type]


BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
SMALL = {
    "fp32": convolution(np.float32),
    "fp16": convolution(np.float16),
    "bf16": convolution(BFLOAT16),
    "int8-trt": quantised(np.array(0, np.int8)),
}


@pytest.mark.parametrize("precision", SMALL)
def test_every_precision_is_built_and_proven(library: Library, tmp_path: Path, precision: str) -> None:
    _, sidecar = small(library, SMALL[precision], tmp_path, precision)
    assert sidecar.key.precision == precision
    wanted = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8-trt": "int8"}[precision]
    assert re.search(rf"all of the graph's types \(\d in {wanted}\)", sidecar.proof[0])


@pytest.mark.parametrize(("precision", "up"), [("fp16", "float16"), ("bf16", "float32")])
def test_what_the_conversion_makes_of_a_decoder_is_built(
    library: Library, tmp_path: Path, precision: str, up: str
) -> None:
    """TensorRT-RTX has no transposed convolution in BF16, so the conversion asks for none."""
    source = decoder()
    converted = replace(source, model=to_half(source.model, precision=precision).model)
    low = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    _, sidecar = small(library, converted, tmp_path, precision)
    counted = f"3 in {low}" if up == low else f"2 in {low}, 1 in {up}"
    assert sidecar.proof[0].endswith(f"all of the graph's types ({counted})")


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        ("fp16", "fp32", "100% in float32"),
        ("fp32", "fp16", "100% in float16"),
        ("fp16", "bf16", "100% in bfloat16"),
        ("int8-trt", "fp32", "100% in float32"),
        ("fp32", "int8-trt", "100% in int8"),
    ],
)
def test_a_graph_of_another_precision_than_asked_for_is_an_error(
    library: Library, tmp_path: Path, asked: str, given: str, told: str
) -> None:
    with pytest.raises(BackendError) as caught:
        small(library, SMALL[given], tmp_path, asked)
    assert caught.value.found == f"{asked} was asked for, and of the weights of the prior graph's layers {told}"
    if asked != "fp32":
        assert f"verdiff export --{asked.partition('-')[0]}'" in caught.value.remedy


def test_a_bundle_whose_fp16_graph_computes_in_fp32_builds_nothing(
    library: Library, both: Bundle, tmp_path: Path
) -> None:
    files = {name: both.read(name) for name in both.manifest.files}
    files[graph_name("prior", "fp16")] = both.graph("prior", "fp32")
    write_bundle(tmp_path / "lie.verdiff", both.manifest, files)
    request = BuildOptions(str(tmp_path / "lie.verdiff"), "fp16", ("prior",), sizes=(SIZES[0],), cache=tmp_path / "c")
    with pytest.raises(BackendError, match="fp16 was asked for"):
        build_engines(request)
    assert [path for path in (tmp_path / "c" / "engines").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(("word", "stored", "option"), [("fp16", "fp16", "--fp16"), ("int8", "int8-trt", "--int8")])
def test_a_bundle_without_the_precision_names_the_command_that_adds_it(
    tmp_path: Path, word: str, stored: str, option: str
) -> None:
    with pytest.raises(BackendError) as caught:
        build_engines(BuildOptions(precision=word, cache=tmp_path))
    assert f"has no prior graph in {stored}" in caught.value.found
    assert "verdiff export" in caught.value.remedy and caught.value.remedy.endswith(option)


def test_the_share_that_is_done_rises_to_the_end(library: Library, tmp_path: Path) -> None:
    shares: list[float] = []
    phases: set[str] = set()

    def watch(share: float, phase: str) -> None:
        shares.append(share)
        phases.add(phase)

    small(library, convolution(), tmp_path, progress=watch)
    assert shares == sorted(shares)
    assert shares[0] < 0.1 and math.isclose(shares[-1], 1.0)
    assert len(phases) > 1


def test_a_build_can_be_given_up(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="was given up"):
        small(library, convolution(), tmp_path, progress=lambda share, phase: share < 0.3)


def test_an_interrupt_while_it_builds_ends_the_build_and_is_passed_on(library: Library, tmp_path: Path) -> None:
    def interrupted(share: float, phase: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(library, convolution(), tmp_path, progress=interrupted)
    # TensorRT is none the worse for it.
    plan, sidecar = small(library, convolution(), tmp_path)
    assert len(plan) == sidecar.plan_bytes


PRESSED = """
import os, signal, sys
from pathlib import Path
from tests.engines.build.graphs import convolution
from tests.engines.build.test_building import small
from verdiff.engines import require_package
from verdiff.engines.library import load_library

library, folder = load_library(require_package("tensorrt_rtx")), Path(sys.argv[1])
calls, whole = [], []

def watch(share, phase):
    calls.append(phase)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGINT)

# A job in a shell's background starts with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    small(library, convolution(), folder, progress=watch)
except KeyboardInterrupt:
    print("interrupted")
small(library, convolution(), folder, progress=lambda share, phase: whole.append(phase))
print(len(calls) < len(whole), signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.set_wakeup_fd(-1))
"""


def test_ctrl_c_ends_a_build_at_its_next_step(library: Library, tmp_path: Path) -> None:
    """In a process of its own, which alone is sent the signal."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", PRESSED, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["interrupted", "True", "True", "-1"], done.stdout + done.stderr


def test_too_small_a_workspace_says_what_to_do(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        small(library, convolution(), tmp_path, workspace_bytes=1)
    assert "workspace" in caught.value.found and "/_src/" not in caught.value.found
    assert caught.value.expected == "an engine for SM 89"
    assert "--workspace-mb" in caught.value.remedy


def test_turing_without_fp32_matrix_products_says_what_to_do(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        build_engines(BuildOptions(roles=("step",), sms=("75",), sizes=(SIZES[0],), batch=1, cache=tmp_path / "c"))
    assert "Turing (SM75)" in caught.value.found
    assert "--sm" in caught.value.remedy
