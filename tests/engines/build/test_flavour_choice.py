"""Which TensorRT builds, for which GPUs, and that the driver is asked before anything of TensorRT is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.engines.build.graphs import convolution
from verdiff.bundle import open_bundle, resolve_model
from verdiff.engines import TENSORRT, Bucket, Package, installed_flavours
from verdiff.engines.build import BuildOptions
from verdiff.engines.build import command as room
from verdiff.engines.build.building import Target, configure
from verdiff.engines.build.command import choose_flavour, make_target
from verdiff.engines.build.graphs import profile_of
from verdiff.engines.build.network import parse
from verdiff.engines.build.timings import TimingCache
from verdiff.engines.library import Library, TensorRt
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver

H200 = Gpu(0, "NVIDIA H200", "90", 150 << 30, None)
ADA = Gpu(1, "NVIDIA GeForce RTX 4090", "89", 24 << 30, None)
DRIVER = InstalledDriver("580.65.06", (13, 0), (H200, ADA))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The GPUs that the driver shows; tests add to it. Without any there is no driver."""
    there: list[Gpu] = []

    def require_gpu(device: str) -> tuple[InstalledDriver, Gpu]:
        if not there:
            raise BackendError("no NVIDIA driver", "a driver", "install it")
        return DRIVER, there[int(device.partition(":")[2] or 0)]

    monkeypatch.setattr(room, "require_gpu", require_gpu)
    return there


def as_tensorrt(library: Library, cuda: str = "13") -> Library:
    """TensorRT-RTX's module, taken for TensorRT's: the calls are the same."""
    return replace(library, flavour=TENSORRT, package=Package("tensorrt", "tensorrt", "11.4.0.106", cuda))


def installed(monkeypatch: pytest.MonkeyPatch, *flavours: str) -> None:
    monkeypatch.setattr(room, "installed_flavours", lambda: flavours)


def test_rtx_builds_for_every_gpu_but_turing_where_there_is_none(library: Library, machine: list[Gpu]) -> None:
    target = make_target(library, BuildOptions())
    assert (target.sm, target.gpu_name, target.gpu) == ("80,86,89,120,121", "", None)


def test_rtx_builds_for_the_gpu_that_is_there(library: Library, machine: list[Gpu]) -> None:
    machine += [ADA]
    target = make_target(library, BuildOptions())
    assert (target.sm, target.gpu_name, target.gpu) == ("89", "", ADA)


def test_rtx_builds_for_the_gpus_that_are_named(library: Library, machine: list[Gpu]) -> None:
    machine += [ADA]
    target = make_target(library, BuildOptions(sms=("120", "86", "86")))
    assert (target.sm, target.gpu) == ("86,120", None)


def test_a_device_that_is_named_must_be_there(library: Library, machine: list[Gpu]) -> None:
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        make_target(library, BuildOptions(device="cuda:0"))


def test_tensorrt_is_for_one_gpu(library: Library, machine: list[Gpu]) -> None:
    machine += [H200, ADA]
    target = make_target(as_tensorrt(library), BuildOptions(device="cuda:1", workspace_mb=256))
    assert (target.sm, target.gpu_name, target.workspace_bytes) == ("89", ADA.name, 256 << 20)
    target = make_target(as_tensorrt(library), BuildOptions(hardware_compatible=True))
    assert (target.sm, target.gpu_name) == ("80+", "")


def test_tensorrt_without_a_driver_is_refused_before_it_is_started(library: Library, machine: list[Gpu]) -> None:
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        make_target(as_tensorrt(library), BuildOptions())


def test_tensorrt_does_not_build_for_gpus_that_are_not_there(library: Library, machine: list[Gpu]) -> None:
    with pytest.raises(BackendError, match="--sm with TensorRT"):
        make_target(as_tensorrt(library), BuildOptions(sms=("89",)))


def test_a_driver_too_old_is_told(library: Library, machine: list[Gpu]) -> None:
    machine += [H200]
    with pytest.raises(BackendError, match=r"runs CUDA up to 13.0, and this TensorRT needs CUDA 14") as caught:
        make_target(as_tensorrt(library, cuda="14"), BuildOptions())
    assert "update NVIDIA's driver" in caught.value.remedy


@pytest.mark.parametrize(
    ("there", "gpus", "request_", "expected"),
    [
        (("tensorrt",), [], BuildOptions(), "tensorrt"),
        (("tensorrt_rtx",), [], BuildOptions(), "tensorrt_rtx"),
        (("tensorrt", "tensorrt_rtx"), [], BuildOptions(), "tensorrt_rtx"),
        (("tensorrt", "tensorrt_rtx"), [H200], BuildOptions(), "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), [H200], BuildOptions(sms=("89",)), "tensorrt_rtx"),
        (("tensorrt", "tensorrt_rtx"), [], BuildOptions(device="cuda"), "tensorrt"),
    ],
)
def test_the_flavour_that_can_build_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    machine: list[Gpu],
    there: tuple[str, ...],
    gpus: list[Gpu],
    request_: BuildOptions,
    expected: str,
) -> None:
    installed(monkeypatch, *there)
    machine += gpus
    assert choose_flavour(request_) == expected


def test_no_flavour_at_all_names_both_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(BackendError) as caught:
        choose_flavour(BuildOptions())
    assert "[tensorrt-rtx]" in caught.value.remedy and "[tensorrt]" in caught.value.remedy


@pytest.mark.skipif("tensorrt" in installed_flavours(), reason="TensorRT is installed here")
def test_a_flavour_that_is_not_installed_names_its_extra() -> None:
    with pytest.raises(BackendError) as caught:
        choose_flavour(BuildOptions(flavour="tensorrt"))
    assert caught.value.remedy == install("tensorrt")


@pytest.mark.parametrize("flags", [(), ("version-compatible",)])
def test_the_builder_is_set_up_strongly_typed_without_tf32_and_refit(
    library: Library, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    graph, tensorrt = convolution(), as_tensorrt(library)
    api = tensorrt.api
    network = parse(tensorrt, graph)
    assert network.definition.get_flag(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    profile = profile_of(graph, Bucket(64, 48, 1, 2, 2), open_bundle(resolve_model()).manifest)
    target = Target(DRIVER, H200, flags=flags, workspace_bytes=1 << 28)
    config = configure(tensorrt, network, [profile], target, TimingCache(tmp_path, library, H200))
    flag = api.BuilderFlag
    assert not config.get_flag(flag.TF32)
    assert not config.get_flag(flag.REFIT)
    assert config.get_flag(flag.VERSION_COMPATIBLE) is ("version-compatible" in flags)
    # A plan that carries its own runtime would be host code.
    assert config.get_flag(flag.EXCLUDE_LEAN_RUNTIME) is ("version-compatible" in flags)
    assert config.max_aux_streams == 0
    # TensorRT-RTX's own, without which its engines may allocate in a run and cannot be captured.
    assert not config.get_flag(flag.REQUIRE_USER_ALLOCATION)  # type: ignore[attr-defined]
    assert config.get_memory_pool_limit(api.MemoryPoolType.WORKSPACE) == 1 << 28
    assert config.num_optimization_profiles == 1


def test_types_decide_the_precision_by_the_flag_that_older_versions_need(library: Library) -> None:
    flag = library.api.NetworkDefinitionCreationFlag
    assert library.network_flags() == 1 << int(flag.STRONGLY_TYPED)
    without = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert replace(library, api=without).network_flags() == 0  # type: ignore[arg-type]


def test_an_engine_for_other_gpus_too_is_asked_for_by_its_level(library: Library, tmp_path: Path) -> None:
    """TensorRT-RTX refuses the setting, so what is set is looked at and not what becomes of it."""
    tensorrt = as_tensorrt(library)
    for flags, level in ((), None), (("hardware-compatible",), tensorrt.api.HardwareCompatibilityLevel.AMPERE_PLUS):
        asked = NullTimings(b"")
        asked.clear_flag = asked.set_flag = lambda flag: None  # type: ignore[attr-defined]
        network = SimpleNamespace(builder=SimpleNamespace(create_builder_config=lambda asked=asked: asked))
        configure(tensorrt, network, [], Target(DRIVER, H200, flags=flags), TimingCache(tmp_path, tensorrt, H200))  # type: ignore[arg-type]
        assert getattr(asked, "hardware_compatibility_level", None) == level


def test_tensorrt_rtx_s_engines_allocate_nothing_in_a_run(library: Library, tmp_path: Path) -> None:
    graph = convolution()
    profile = profile_of(graph, Bucket(64, 48, 1, 2, 2), open_bundle(resolve_model()).manifest)
    network = parse(library, graph)
    config = configure(library, network, [profile], Target(sms=("89",)), TimingCache(tmp_path, library, None))
    assert config.get_flag(library.api.BuilderFlag.REQUIRE_USER_ALLOCATION)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (BuildOptions(sms=("abc",)), "sms = 'abc'"),
        (BuildOptions(device="cpu"), "device = 'cpu'"),
        (BuildOptions(sizes=((0, 0),)), "an engine size of 0 x 0 pixels"),
    ],
)
def test_odd_words_are_refused(request_: BuildOptions, told: str) -> None:
    with pytest.raises(BackendError, match=told):
        room.build_engines(request_)


def test_an_engine_for_another_gpu_than_the_one_at_hand_is_not_loaded_to_look_into(
    library: Library, machine: list[Gpu]
) -> None:
    machine += [ADA]
    assert make_target(library, BuildOptions(device="cuda:0")).builds_for_its_gpu
    assert not make_target(library, BuildOptions(device="cuda:0", sms=("120",))).builds_for_its_gpu
    assert make_target(as_tensorrt(library), BuildOptions()).builds_for_its_gpu


class NullTimings:
    """A builder's settings as far as timings go: refuses a blob that is not its own."""

    def __init__(self, own: bytes) -> None:
        self.own, self.taken = own, b"nothing"

    def create_timing_cache(self, blob: bytes) -> bytes | None:
        return None if blob == b"unreadable" else blob

    def set_timing_cache(self, timings: bytes, ignore_mismatch: bool) -> bool:
        if timings in (self.own, b""):
            self.taken = timings
        return timings in (self.own, b"") and not ignore_mismatch

    def get_timing_cache(self) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: self.own)


def test_timings_of_one_build_serve_the_next_and_others_are_not_believed(library: Library, tmp_path: Path) -> None:
    timings = TimingCache(tmp_path, as_tensorrt(library), H200)
    assert timings.path is not None
    first = NullTimings(b"measured")
    timings.lend(first)  # type: ignore[arg-type]
    assert first.taken == b""
    timings.keep(first)  # type: ignore[arg-type]
    assert timings.path.read_bytes() == b"measured"
    for left, taken in ((b"measured", b"measured"), (b"another's", b""), (b"unreadable", b"")):
        timings.path.write_bytes(left)
        following = NullTimings(b"measured")
        timings.lend(following)  # type: ignore[arg-type]
        assert following.taken == taken


def test_timings_are_kept_for_a_gpu_and_a_version(library: Library, tmp_path: Path) -> None:
    tensorrt = as_tensorrt(library)
    one, other = (TimingCache(tmp_path, tensorrt, gpu).path for gpu in (H200, ADA))
    assert one is not None and one != other and one.parent == tmp_path
    assert TimingCache(tmp_path, replace(tensorrt, version="12.0"), H200).path != one
    assert TimingCache(tmp_path, library, H200).path is None


def test_everything_that_is_used_of_the_module_is_there(library: Library) -> None:
    missing = [name for name in vars(TensorRt) if name[0].isupper() and not hasattr(library.api, name)]
    assert missing == []
    assert library.version.count(".") == 3
    assert library.sms() == tuple(sorted(library.sms(), key=int)) and "89" in library.sms()
