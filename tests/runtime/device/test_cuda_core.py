"""The real driver's calls against the installed cuda-core and cuda-bindings, and what becomes of their errors."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.device.null_driver import GPU, NullDriver
from verdiff.errors import BackendError
from verdiff.runtime.device import cuda_core
from verdiff.runtime.device.cuda_core import CudaCore, open_driver
from verdiff.runtime.device.driver import DeviceError, Driver

SOURCE = Path(inspect.getsourcefile(cuda_core) or "").read_text("utf-8")


def driver_calls() -> dict[str, int]:
    """Name of every function asked of cuda-bindings, and how many arguments it is given."""
    return {
        call.args[0].value: len(call.args) - 1
        for call in ast.walk(ast.parse(SOURCE))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "_call"
        if isinstance(call.args[0], ast.Constant)
    }


def test_every_function_asked_of_the_bindings_is_there_and_takes_what_it_is_given() -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")
    calls = driver_calls()
    assert len(calls) > 20
    for name, given in calls.items():
        signature = (getattr(bindings, name).__doc__ or "").splitlines()[0]
        wanted = re.fullmatch(rf"{name}\((.*)\)", signature)
        assert wanted is not None, signature
        assert len([part for part in wanted[1].split(",") if part]) == given, signature
    assert bindings.CUresult.CUDA_SUCCESS.name == "CUDA_SUCCESS"


def test_every_name_used_of_cuda_core_is_there() -> None:
    core = pytest.importorskip("cuda.core")
    graph = pytest.importorskip("cuda.core.graph")
    fields = {field.name for field in dataclasses.fields(core.ProgramOptions)}
    assert {"arch", "fma", "define_macro"} <= fields
    for owner, names in (
        (core.Stream, ("from_handle", "create_graph_builder")),
        (graph.GraphBuilder, ("begin_building", "end_building", "complete", "close")),
        (graph.Graph, ("handle", "close")),
        (core.Program, ("compile",)),
        (core.ObjectCode, ("from_cubin", "get_kernel")),
        (core, ("launch",)),
    ):
        assert all(callable(getattr(owner, name)) or name == "handle" for name in names), owner
    config = core.LaunchConfig(grid=3, block=256)
    assert (config.grid, config.block) == ((3, 1, 1), (256, 1, 1))
    assert "thread_local" in graph.GraphBuilder.begin_building.__doc__


def test_both_drivers_have_every_method_of_the_protocol() -> None:
    wanted = {name for name in vars(Driver) if not name.startswith("_")} - {"gpu", "is_primary"}
    for kind in (CudaCore, NullDriver):
        assert wanted <= set(dir(kind)), kind
        for name in wanted:
            given = inspect.signature(getattr(kind, name)).parameters
            assert list(given) == list(inspect.signature(getattr(Driver, name)).parameters), (kind, name)


class Bindings:
    """cuda.bindings.driver with a context; the function named ``fails`` answers with an error."""

    primary_is_there = True

    def __init__(
        self, fails: str = "", code: str = "CUDA_ERROR_ILLEGAL_ADDRESS", current: int = 0, of: int = 0
    ) -> None:
        self.CUresult = SimpleNamespace(CUDA_SUCCESS=SimpleNamespace(name="CUDA_SUCCESS"))
        self.CUstream_flags = SimpleNamespace(CU_STREAM_DEFAULT=0, CU_STREAM_NON_BLOCKING=1)
        self.CUevent_flags = SimpleNamespace(CU_EVENT_BLOCKING_SYNC=1, CU_EVENT_DISABLE_TIMING=2)
        self.CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)
        self.CUstreamCaptureMode = SimpleNamespace(
            CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local", CU_STREAM_CAPTURE_MODE_RELAXED="relaxed"
        )
        self.fails, self.code, self.calls = fails, code, []
        self.results = {"cuCtxGetCurrent": current, "cuCtxGetDevice": of, "cuDeviceGet": 0}
        self.results |= {"cuDevicePrimaryCtxRetain": 70, "cuMemAlloc": 4096, "cuPointerGetAttribute": 5}
        self.results |= {"cuThreadExchangeStreamCaptureMode": "global"}
        self.results |= {"cuStreamCreateWithPriority": 3, "cuEventCreate": 8}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def function(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            if name == self.fails:
                if self.code == "missing":
                    raise RuntimeError(f'Function "{name}" not found')
                return (SimpleNamespace(name=self.code),)
            if name == "cuDevicePrimaryCtxGetState":
                return self.CUresult.CUDA_SUCCESS, 0, self.primary_is_there
            return self.CUresult.CUDA_SUCCESS, *([self.results[name]] if name in self.results else [])

        return function


@pytest.mark.parametrize(
    ("current", "of", "pushed"),
    [(0, 0, 70), (55, 0, 55), (55, 1, 70)],
    ids=["no context: the primary one", "the caller's own", "of another device: the primary one"],
)
def test_the_callers_context_is_taken_where_there_is_one(current: int, of: int, pushed: int) -> None:
    bindings = Bindings(current=current, of=of)
    driver = CudaCore(GPU, None, bindings)
    with driver.active():
        pass
    assert ("cuCtxPushCurrent", pushed) in bindings.calls
    assert bindings.calls[-1] == ("cuCtxPopCurrent",)


@pytest.mark.parametrize(("current", "there", "primary"), [(0, False, True), (70, True, True), (55, True, False)])
def test_the_primary_context_is_known_for_what_it_is(current: int, there: bool, primary: bool) -> None:
    bindings = Bindings(current=current)
    bindings.primary_is_there = there
    assert CudaCore(GPU, None, bindings).is_primary is primary
    released = [call for call in bindings.calls if call[0] == "cuDevicePrimaryCtxRelease"]
    assert len(released) == (0 if primary else 1)


def test_a_program_with_a_context_of_its_own_does_not_pay_for_the_primary_one() -> None:
    bindings = Bindings(current=55)
    bindings.primary_is_there = False
    assert not CudaCore(GPU, None, bindings).is_primary
    assert "cuDevicePrimaryCtxRetain" not in [call[0] for call in bindings.calls]


@pytest.mark.parametrize("fails", ["", "cuMemFree"])
def test_captures_of_other_threads_forbid_nothing_while_the_context_is_active(fails: str) -> None:
    bindings = Bindings(fails=fails)
    driver = CudaCore(GPU, None, bindings)
    with suppress(DeviceError), driver.active():
        assert bindings.calls[-1] == ("cuThreadExchangeStreamCaptureMode", "thread local")
        driver.free(4096)
    names = [call[0] for call in bindings.calls]
    assert names[-4:] == [
        "cuThreadExchangeStreamCaptureMode",
        "cuMemFree",
        "cuThreadExchangeStreamCaptureMode",
        "cuCtxPopCurrent",
    ]
    assert bindings.calls[-2] == ("cuThreadExchangeStreamCaptureMode", "global")


def test_what_is_collected_within_a_capture_may_be_given_back() -> None:
    bindings = Bindings()
    with CudaCore(GPU, None, bindings).active(relaxed=True):
        assert bindings.calls[-1] == ("cuThreadExchangeStreamCaptureMode", "relaxed")


def test_a_mode_that_is_not_taken_leaves_no_context_behind() -> None:
    bindings = Bindings(fails="cuThreadExchangeStreamCaptureMode")
    driver = CudaCore(GPU, None, bindings)
    with pytest.raises(DeviceError), driver.active():
        raise AssertionError("the block must not run")
    assert bindings.calls[-1] == ("cuCtxPopCurrent",)


def test_streams_do_not_wait_for_the_default_one_and_events_sleep() -> None:
    bindings = Bindings()
    driver = CudaCore(GPU, None, bindings)
    assert (driver.open_stream(-2), driver.open_event()) == (3, 8)
    assert bindings.calls[-2:] == [("cuStreamCreateWithPriority", 1, -2), ("cuEventCreate", 1 | 2)]


def test_the_flags_and_attributes_are_those_of_the_installed_bindings() -> None:
    bindings, ours = pytest.importorskip("cuda.bindings.driver"), Bindings()
    for kind in ("CUstream_flags", "CUevent_flags", "CUpointer_attribute"):
        for name, value in vars(getattr(ours, kind)).items():
            assert int(getattr(getattr(bindings, kind), name)) == value
    assert bindings.CUresult.CUDA_ERROR_NOT_READY.name == "CUDA_ERROR_NOT_READY"


@pytest.mark.parametrize(("code", "ordinal"), [("", 5), ("CUDA_ERROR_INVALID_VALUE", None)], ids=["device", "host"])
def test_a_pointer_is_of_a_device_or_of_none(code: str, ordinal: int | None) -> None:
    bindings = Bindings(fails="cuPointerGetAttribute" if code else "", code=code)
    assert CudaCore(GPU, None, bindings).ordinal_of(0x1000) == ordinal
    assert bindings.calls[-1] == ("cuPointerGetAttribute", 9, 0x1000)


def test_an_event_has_passed_or_not_and_a_failure_is_neither() -> None:
    assert CudaCore(GPU, None, Bindings()).passed("event")
    assert not CudaCore(GPU, None, Bindings(fails="cuEventQuery", code="CUDA_ERROR_NOT_READY")).passed("event")
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        CudaCore(GPU, None, Bindings(fails="cuEventQuery")).passed("event")
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        CudaCore(GPU, None, Bindings(fails="cuPointerGetAttribute")).ordinal_of(1)


class Core:
    """cuda.core, which counts the streams that are made of addresses."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.launched: list[Any] = []
        self.Stream = SimpleNamespace(from_handle=self.from_handle)

    def from_handle(self, handle: int) -> Any:
        self.made.append(handle)
        return SimpleNamespace(handle=handle)

    def LaunchConfig(self, **_: Any) -> None:
        pass

    def launch(self, stream: Any, *_: Any) -> None:
        self.launched.append(stream.handle)


def test_a_stream_is_made_of_its_address_once_until_it_is_closed() -> None:
    core = Core()
    driver = CudaCore(GPU, core, Bindings())
    for stream in (3, 4, 3, 4):
        driver.launch("kernel", 10, (), stream)
    assert (core.launched, core.made) == ([3, 4, 3, 4], [3, 4])
    driver.close_stream(3)
    driver.launch("kernel", 10, (), 3)
    assert core.made == [3, 4, 3]


def test_streams_that_a_host_makes_for_ever_do_not_add_up() -> None:
    core = Core()
    driver = CudaCore(GPU, core, Bindings())
    for stream in range(3, 1000):
        driver.launch("kernel", 10, (), stream)
    assert len(driver._streams) == cuda_core.MOST_STREAMS


def test_kernels_are_compiled_without_fused_multiply_add() -> None:
    asked: list[dict[str, Any]] = []

    def program(source: str, language: str, options: Any) -> Any:
        return SimpleNamespace(compile=lambda kind: SimpleNamespace(code=kind.encode()))

    core = ModuleType("core")
    core.__dict__.update(ProgramOptions=lambda **options: asked.append(options), Program=program)
    assert cuda_core.compile_cubin(core, "text", "sm_90", (("CLASSES", "3"),)) == b"cubin"
    assert asked == [{"arch": "sm_90", "fma": False, "define_macro": [("CLASSES", "3")]}]


def test_an_error_of_the_driver_is_named_with_its_device() -> None:
    driver = CudaCore(GPU, None, Bindings(fails="cuMemAlloc", code="CUDA_ERROR_OUT_OF_MEMORY"))
    with pytest.raises(DeviceError, match=r"cuMemAlloc on cuda:0 \(Null GPU\): CUDA_ERROR_OUT_OF_MEMORY"):
        driver.allocate(10)


def test_a_function_the_driver_does_not_have_means_it_is_too_old() -> None:
    with pytest.raises(DeviceError, match="update the NVIDIA driver"):
        CudaCore(GPU, None, Bindings(fails="cuMemAlloc", code="missing")).allocate(10)


@pytest.mark.parametrize(
    ("raised", "code", "lost"),
    [
        ("CUDA_ERROR_LAUNCH_FAILED: An exception occurred on the device", "CUDA_ERROR_LAUNCH_FAILED", True),
        ("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: x", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", False),
        ('"nvrtc" could not be found', '"nvrtc" could not be found', False),
    ],
)
def test_an_error_of_cuda_core_is_named_by_its_first_word(raised: str, code: str, lost: bool) -> None:
    def launch(*_: Any) -> None:
        raise RuntimeError(raised)

    core = SimpleNamespace(
        launch=launch, LaunchConfig=lambda **_: None, Stream=SimpleNamespace(from_handle=lambda handle: handle)
    )
    with pytest.raises(DeviceError) as caught:
        CudaCore(GPU, core, Bindings()).launch("kernel", 1000, (1, np.int32(2)), 3)
    assert (caught.value.code, caught.value.lost) == (code, lost)


def test_a_capture_that_went_wrong_is_closed_and_only_its_first_error_is_told() -> None:
    class Builder:
        closed = False

        def begin_building(self, mode: str) -> None:
            assert mode == "thread_local"

        def end_building(self) -> None:
            raise RuntimeError("Build process encountered an error and has been invalidated.")

        def close(self) -> None:
            self.closed = True
            raise RuntimeError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: again")

    builder = Builder()
    stream = SimpleNamespace(create_graph_builder=lambda: builder)
    core = SimpleNamespace(Stream=SimpleNamespace(from_handle=lambda handle: stream))
    driver = CudaCore(GPU, core, Bindings())
    for keep in (False, True):
        driver.begin_capture(3)
        if keep:
            with pytest.raises(DeviceError, match="has been invalidated"):
                driver.end_capture(3)
        else:
            assert driver.end_capture(3, keep=False) is None
        assert builder.closed


def test_without_a_driver_the_reason_is_named_and_nothing_of_cuda_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(device: str) -> None:
        raise BackendError("no NVIDIA driver", "a machine with one", "use --device cpu")

    monkeypatch.setattr(cuda_core, "require_gpu", no_driver)
    monkeypatch.setattr(cuda_core, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        open_driver("cuda:0")


def test_without_cuda_core_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cuda_core, "require_gpu", lambda device: (None, GPU))
    monkeypatch.setattr(cuda_core, "import_module", not_there)
    with pytest.raises(BackendError, match=r"\.\[gpu\]"):
        open_driver("cuda:0")
