"""TensorRT as a backend, on the null device: found, checked, bound, captured, and every refusal with its command."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.run.null_tensorrt import null_tensorrt, write_plan
from tests.runtime.device.null_driver import GPU, NullDriver
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff import nvidia
from verdiff.bundle import graph_name, open_bundle
from verdiff.engines import Package, engine_path, library
from verdiff.engines.run import kernels, loading
from verdiff.errors import BackendError, OutputError
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import choose_backend
from verdiff.runtime.device import opening

Load = Callable[..., Segmenter]
BOTH = pytest.mark.parametrize("rtx", [False, True])


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle_path: Path, driver: NullDriver) -> Load:
    """``Segmenter.load`` on a machine with the null GPU, both TensorRTs and an empty cache of engines."""
    monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / "cache"))
    there = nvidia.InstalledDriver("580.65", (13, 0), (GPU,))
    monkeypatch.setattr(loading, "require_gpu", lambda device: (there, GPU))
    monkeypatch.setattr(opening, "open_driver", lambda device: driver)

    def load(
        path: Path | None = None,
        *,
        rtx: bool = False,
        cuda: str = "13",
        engine: dict[str, Any] | None = None,
        **options: Any,
    ) -> Segmenter:
        module = f"null_tensorrt_module_{id(options)}"
        package = Package("tensorrt_rtx" if rtx else "tensorrt", module, "10.13.0.35", cuda)
        monkeypatch.setitem(sys.modules, module, null_tensorrt(driver, rtx=rtx, **(engine or {})))  # type: ignore[arg-type]
        for place in ("verdiff.engines", "verdiff.engines.run.loading"):
            monkeypatch.setattr(f"{place}.require_package", lambda *_, **__: package)
        backend = "tensorrt-rtx" if rtx else "tensorrt"
        return Segmenter.load(path or bundle_path, device="cuda:0", backend=backend, **options)

    return load


@pytest.fixture
def hashes(bundle_path: Path) -> dict[str, str]:
    files = open_bundle(bundle_path).manifest.files
    return {"prior": files[graph_name("prior")], "step": files[graph_name("denoiser")]}


@pytest.fixture
def built(load: Load, hashes: dict[str, str]) -> Load:
    """The same with engines in the cache."""
    for rtx in (False, True):
        for role, digest in hashes.items():
            write_plan(role, digest, rtx=rtx)
    return load


@BOTH
def test_a_segmenter_is_loaded_tested_and_gives_the_hosts_masks(built: Load, rtx: bool) -> None:
    segmenter = built(rtx=rtx)
    assert set(segmenter.differences) == {"prior", "denoiser", "labels"}
    assert max(segmenter.differences.values()) < 1e-6
    result = segmenter.segment(mr_scan(), samples=3)
    assert same(result, numpy_segmenter().segment(mr_scan(), samples=3))
    backend = result.provenance["backend"]
    assert (backend["name"], backend["version"]) == ("tensorrt-rtx" if rtx else "tensorrt", "10.13.0.35")
    assert (backend["device"], backend["precision"], backend["batch"]) == ("cuda:0", "fp32", 4)


def test_a_slice_is_not_padded_to_its_profile(built: Load) -> None:
    """More padding than the model's multiple changes what its normalisation sees, and so the mask."""
    segmenter = built()
    segmenter.segment(mr_scan(3, 45, 38))
    latest = list(segmenter.backend.spaces._there)[-1]  # type: ignore[union-attr]
    assert (latest.rows, latest.cols) == (40, 36)


@BOTH
def test_without_an_engine_the_command_that_builds_it_is_named(load: Load, bundle_path: Path, rtx: bool) -> None:
    with pytest.raises(BackendError, match="no engine of the prior in fp32") as caught:
        load(rtx=rtx)
    flavour = "tensorrt-rtx" if rtx else "tensorrt"
    assert caught.value.remedy == f"verdiff build {bundle_path} --precision fp32 --role prior --flavour {flavour}"


@pytest.mark.parametrize("word", ["int8", "int8-trt"])
def test_int8_means_the_form_that_tensorrt_takes(load: Load, bundle_path: Path, word: str) -> None:
    with pytest.raises(BackendError, match="has no prior graph in int8-trt") as caught:
        load(precision=word)
    assert caught.value.remedy == f"verdiff export {bundle_path} --int8"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sm": "86"}, "built for SM 86"),
        ({"trt_version": "10.12.0.1"}, "built by TensorRT 10.12.0.1"),
        ({"gpu_name": "Another GPU"}, "tuned for Another GPU"),
    ],
)
def test_an_engine_of_another_machine_is_refused_with_the_difference(
    load: Load, hashes: dict[str, str], change: dict[str, str], said: str
) -> None:
    for role, digest in hashes.items():
        write_plan(role, digest, **change)
    with pytest.raises(BackendError, match=said) as caught:
        load()
    assert caught.value.remedy.startswith("verdiff build tiny-mr")


def test_an_engine_of_another_graph_is_no_engine_of_this_model(load: Load) -> None:
    write_plan("prior", "00" * 32)
    with pytest.raises(BackendError, match="no engine of the prior"):
        load()


def test_a_plan_that_was_changed_is_refused_before_it_is_loaded(built: Load, hashes: dict[str, str]) -> None:
    path = engine_path(write_plan("step", hashes["step"]))
    path.write_bytes(b"PLAN step")
    with pytest.raises(BackendError, match="SHA-256"):
        built()


def test_a_driver_too_old_is_said_before_tensorrt_starts(built: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "import_module", pytest.fail)
    with pytest.raises(BackendError, match=r"runs CUDA up to 13\.0") as caught:
        built(cuda="14")
    assert "driver" in caught.value.remedy


def test_without_an_engine_tensorrt_is_not_started(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "import_module", pytest.fail)
    with pytest.raises(BackendError, match="no engine of the prior"):
        load()


@BOTH
def test_a_tensorrt_whose_libraries_are_missing_is_named(
    built: Load, monkeypatch: pytest.MonkeyPatch, rtx: bool
) -> None:
    def without_libraries(name: str) -> None:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(library, "import_module", without_libraries)
    with pytest.raises(BackendError, match=r"cannot be loaded \(libnvinfer.so.11") as caught:
        built(rtx=rtx)
    assert "tensorrt-rtx]" in caught.value.remedy if rtx else "tensorrt]" in caught.value.remedy


def test_an_engine_that_wants_more_memory_than_it_said_is_refused(built: Load) -> None:
    with pytest.raises(BackendError, match="bytes to work in, where it had said"):
        built(engine={"grows": True})


def test_what_tensorrt_rtx_compiles_is_kept_beside_the_engine(built: Load, hashes: dict[str, str]) -> None:
    path = engine_path(write_plan("step", hashes["step"], rtx=True)).with_suffix(".kernels")
    built(rtx=True).close()
    assert path.read_bytes() == b"kernels of step"
    assert path.stat().st_mode & 0o077 == 0
    for left in (b"kernels of step", b"another version's"):
        path.write_bytes(left)
        built(rtx=True).close()
        assert path.read_bytes() == b"kernels of step"


def test_a_folder_that_cannot_be_written_keeps_no_kernels_and_runs(
    built: Load, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OutputError("the disk is full", "room", "make some")

    monkeypatch.setattr(kernels, "place_file", full)
    segmenter = built(rtx=True)
    assert same(segmenter.segment(mr_scan()), numpy_segmenter().segment(mr_scan()))
    segmenter.close()
    assert not engine_path(write_plan("step", hashes["step"], rtx=True)).with_suffix(".kernels").exists()


def test_tensorrt_keeps_no_kernels(built: Load, tmp_path: Path) -> None:
    built().close()
    assert not list((tmp_path / "cache").rglob("*.kernels"))


def test_an_engine_that_does_not_load_is_named_with_the_reason(built: Load) -> None:
    with pytest.raises(BackendError, match="Magic tag does not match") as caught:
        built(engine={"broken": "step"})
    assert "verdiff build tiny-mr --precision fp32 --role step" in caught.value.remedy


def test_a_scan_larger_than_every_profile_names_the_size_to_build(built: Load) -> None:
    with pytest.raises(BackendError, match=r"slices of 64 x 68 pixels") as caught:
        built().segment(mr_scan(2, 70, 75))
    assert caught.value.remedy.endswith("--size 32x32 --size 64x64 --size 64x68")
    assert "4x4 to 64x64 in batches of 1 to 4" in caught.value.expected


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"types": {"image": "HALF", "x": "HALF"}}, "image is HALF, not FLOAT"),
        ({"types": {"feature_0": "INT8"}}, "feature_0 is INT8"),
        ({"extra": ("sneaked_in",)}, "sneaked_in"),
        ({"contexts": False}, "no execution context"),
        ({"lays_out": False}, "does not say what memory slices of 32x32 pixels in batches of 4 need .Error Code 7"),
        ({"refuses": True}, "did not run .Cask convolution execution failed"),
    ],
)
def test_an_engine_that_is_not_what_the_loop_binds_is_refused(built: Load, engine: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        built(engine=engine)


def test_an_engine_that_cannot_be_captured_is_refused(built: Load) -> None:
    with pytest.raises(BackendError, match="cannot be captured"):
        built(rtx=True, engine={"capturable": False})


def test_features_have_the_type_the_engines_have(built: Load) -> None:
    segmenter = built(engine={"half": np.float16}, self_test=False)
    assert segmenter.backend.networks.features[0].dtype == np.float16  # type: ignore[union-attr]
    result = segmenter.segment(mr_scan())
    assert np.mean(result.labels == numpy_segmenter().segment(mr_scan()).labels) > 0.999


@BOTH
@pytest.mark.parametrize("half", [np.float32, np.float16])
def test_a_model_of_one_pass_runs_its_prior_alone(
    load: Load, single_pass_path: Path, driver: NullDriver, rtx: bool, half: Any
) -> None:
    write_plan("prior", open_bundle(single_pass_path).manifest.files[graph_name("prior")], rtx=rtx)
    segmenter = load(single_pass_path, rtx=rtx, engine={"diffusion": False, "half": half})
    assert set(segmenter.differences) == {"prior", "labels"}
    scan = mr_scan(9)
    expected = Segmenter.load(single_pass_path, backend="onnxruntime", threads=1).segment(scan)
    driver.calls.clear()
    result = segmenter.segment(scan)
    assert np.mean(result.labels == expected.labels) > 0.9999 and result.outcome == "complete"
    assert {name for name in driver.names if name.startswith("network:")} == {"network:prior"}


def test_engines_whose_memory_is_short_run_in_smaller_batches(built: Load, driver: NullDriver) -> None:
    segmenter = built(memory_mb=1, self_test=False)
    result = segmenter.segment(mr_scan(4, 64, 64), samples=8)
    assert result.provenance["backend"]["batch"] < 4
    assert max(block.size for block in driver.device.values()) <= 1 << 20


def test_all_memory_is_taken_when_the_model_is_loaded(built: Load, driver: NullDriver) -> None:
    segmenter = built()
    assert driver.names.count("allocate") == 1
    driver.calls.clear()
    for rows, cols in ((64, 64), (20, 30), (45, 60)):
        segmenter.segment(mr_scan(5, rows, cols, pixel=1.0))
    assert not {"allocate", "allocate_pinned"} & set(driver.names)


def test_a_size_too_large_for_the_cap_does_not_forbid_the_smaller_ones(built: Load) -> None:
    segmenter = built(memory_mb=1)
    assert segmenter.segment(mr_scan(3, 20, 30)).outcome == "complete"


def test_nothing_is_left_of_a_load_that_failed(built: Load, driver: NullDriver) -> None:
    for engine in ({"broken": "step"}, {"refuses": True}):
        with pytest.raises(BackendError):
            built(engine=engine)
    gc.collect()
    assert set(driver.held.values()) == {0}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("tensorrt", "cpu", "fp32"), "device 'cpu'"),
        (("tensorrt", "cuda:0", "int4"), "precision 'int4'"),
        (("tensorrt-rtx", "gpu", "fp32"), "device 'gpu'"),
    ],
)
def test_what_tensorrt_cannot_do_is_refused_by_name(load: Load, asked: tuple[str, str, str], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        choose_backend(*asked)


def test_without_a_driver_nothing_of_cuda_is_loaded(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("tensorrt", "no_such_module", "10.13", "13")
    monkeypatch.setattr("verdiff.engines.require_package", lambda *_, **__: package)

    def no_driver(device: str) -> None:
        raise BackendError("no NVIDIA driver", "one", "install it")

    monkeypatch.setattr("verdiff.runtime.device.cuda_core.require_gpu", no_driver)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        Segmenter.load(bundle_path, device="cuda:0", backend="tensorrt")
