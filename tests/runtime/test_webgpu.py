"""A GPU of any make: which one `webgpu` is, and what is said where there is none. No device is needed here."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import helper

from tests.runtime.fake_onnxruntime import CPU, FakeOnnxRuntime, Part, SessionOptions
from tests.runtime.tiny_bundle import denoiser_graph
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime import backends
from verdiff.runtime.backends import choose_backend, direct3d, on_device, vulkan, webgpu
from verdiff.runtime.backends.adapters import Adapter, named
from verdiff.runtime.backends.direct3d import direct3d_adapters
from verdiff.runtime.backends.opset import declared_at_most
from verdiff.runtime.backends.webgpu import PROVIDER, require_adapter, require_provider

RADEON, ARC = Adapter("AMD Radeon RX 7600", False), Adapter("Intel Arc A770", False)
LAVAPIPE = Adapter("llvmpipe (LLVM 19.1.7, 256 bits)", True)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that a machine's Vulkan loader finds these adapters; a loader that is old leaves none of them out."""

    def pretend(*adapters: Adapter, old: bool = False) -> None:
        def found() -> tuple[Adapter, ...]:
            hidden = os.environ.get(vulkan.LEAVE_OUT, "")
            if old or not hidden:
                return adapters
            return tuple(each for each in adapters if each.software == (hidden == "*"))

        monkeypatch.setattr(vulkan, "vulkan_adapters", found)

    return pretend


def test_a_device_of_webgpu_takes_its_backend_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (("auto", "webgpu", "fp32"), ("webgpu", "webgpu", "fp16"), ("auto", "webgpu:software", "fp32")):
        assert choose_backend(*asked) == "webgpu"
        assert not on_device("webgpu", asked[1]), "the loop is the host's"
    for backend, device in (("webgpu", "cpu"), ("webgpu", "cuda:0"), ("openvino", "webgpu"), ("tensorrt", "webgpu")):
        with pytest.raises(BackendError, match=f"with the {backend} backend"):
            choose_backend(backend, device, "fp32")
    for precision in ("int8", "bf16"):
        with pytest.raises(BackendError, match="expected: one of fp32, fp16"):
            choose_backend("auto", "webgpu", precision)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(BackendError) as caught:
        choose_backend("auto", "webgpu", "fp32")
    assert caught.value.remedy == install("webgpu")


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        (("onnxruntime",), "pip uninstall -y onnxruntime, then"),
        (("onnxruntime", "onnxruntime-webgpu"), "pip uninstall -y onnxruntime onnxruntime-webgpu, then"),
        ((), "pip uninstall -y onnxruntime, then"),
    ],
)
def test_another_package_of_onnxruntime_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(webgpu, "installed_packages", lambda: packages)
    with pytest.raises(BackendError, match="has no WebGPU provider") as caught:
        require_provider(FakeOnnxRuntime(offered=[CPU]))
    assert caught.value.remedy == f"{said} {install('webgpu')}"
    assert ("overwritten each other" in caught.value.found) == (len(packages) > 1)
    require_provider(FakeOnnxRuntime(offered=[PROVIDER, CPU]))


def test_a_gpu_is_taken_and_a_driver_that_computes_on_the_processor_is_left_out(there: Callable[..., None]) -> None:
    there(RADEON, LAVAPIPE)
    assert require_adapter("webgpu", platform="linux") == (RADEON,)
    assert require_adapter("webgpu:software", platform="linux") == (LAVAPIPE,)
    there(RADEON, ARC)
    assert named(require_adapter("webgpu", platform="linux")) == "one of AMD Radeon RX 7600, Intel Arc A770"


def test_a_driver_that_computes_on_the_processor_is_never_a_gpu_nor_the_other_way_round(
    there: Callable[..., None],
) -> None:
    there(LAVAPIPE)
    with pytest.raises(
        BackendError, match=r"no Vulkan driver of a GPU, but llvmpipe .* computes on the proc"
    ) as caught:
        require_adapter("webgpu", platform="linux")
    assert "webgpu:software" in caught.value.remedy
    there(RADEON)
    with pytest.raises(BackendError, match="no Vulkan driver that computes on the processor"):
        require_adapter("webgpu:software", platform="linux")
    there()
    with pytest.raises(BackendError, match="no Vulkan driver of a GPU\n"):
        require_adapter("webgpu", platform="linux")


def test_a_loader_that_cannot_leave_drivers_out_is_not_trusted_with_both_kinds(there: Callable[..., None]) -> None:
    there(RADEON, LAVAPIPE, old=True)
    for device, said in (("webgpu", "VK_ICD_FILENAMES"), ("webgpu:software", "VK_DRIVER_FILES")):
        with pytest.raises(BackendError) as caught:
            require_adapter(device, platform="linux")
        assert said in caught.value.remedy and "1.3.234" in caught.value.remedy


def test_without_a_vulkan_loader_its_package_is_named() -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    assert vulkan.vulkan_adapters(missing) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vulkan, "vulkan_adapters", lambda: None)
        with pytest.raises(BackendError, match="libvulkan1"):
            require_adapter("webgpu", platform="linux")


def test_a_mac_has_metal_and_windows_the_gpus_that_direct3d_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(require_adapter("webgpu", platform="darwin")) == "Metal"
    basic = Adapter("Microsoft Basic Render Driver", True)
    monkeypatch.setattr(webgpu, "direct3d_adapters", lambda: (ARC, basic))
    assert require_adapter("webgpu", platform="win32") == (ARC,)
    monkeypatch.setattr(webgpu, "direct3d_adapters", lambda: (basic,))
    with pytest.raises(BackendError, match="no GPU that Direct3D knows"):
        require_adapter("webgpu", platform="win32")
    for platform in ("darwin", "win32"):
        with pytest.raises(BackendError, match="webgpu:software on"):
            require_adapter("webgpu:software", platform=platform)


def test_drivers_are_hidden_for_the_length_of_a_block_beside_those_that_a_user_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(vulkan.SELECT, raising=False)
    monkeypatch.setenv(vulkan.LEAVE_OUT, "*intel*")
    with vulkan.only(software=False):
        assert os.environ[vulkan.LEAVE_OUT] == f"*intel*,{vulkan.SOFTWARE_DRIVERS}"
    with vulkan.only(software=True):
        assert (os.environ[vulkan.LEAVE_OUT], os.environ[vulkan.SELECT]) == ("*", vulkan.SOFTWARE_DRIVERS)
    assert os.environ[vulkan.LEAVE_OUT] == "*intel*" and vulkan.SELECT not in os.environ


class Loader:
    """A Vulkan loader with these devices, a kind and a name each."""

    def __init__(self, *devices: tuple[int, str], fails: str = "") -> None:
        self.devices, self.fails, self.open = devices, fails, 0

    def vkCreateInstance(self, info: Any, _: None, instance: Any) -> int:
        self.open += 1
        return -9 if self.fails == "create" else 0

    def vkEnumeratePhysicalDevices(self, instance: Any, count: Any, handles: Any) -> int:
        if self.fails == "enumerate":
            return -3
        count._obj.value = len(self.devices)
        for index in range(len(self.devices) if handles is not None else 0):
            handles[index] = index + 1
        return 0

    def vkGetPhysicalDeviceProperties(self, handle: Any, properties: Any) -> None:
        kind, name = self.devices[handle.value - 1]
        ctypes.memmove(properties, struct.pack("=5I256s", 0, 0, 0, 0, kind, name.encode()), 276)

    def vkDestroyInstance(self, instance: Any, _: None) -> None:
        self.open -= 1


def test_vulkans_devices_come_in_the_order_of_their_speed_and_the_instance_is_given_back() -> None:
    loader = Loader((4, "llvmpipe"), (3, "Virtio"), (1, "Iris Xe"), (2, "RTX 4060"))
    found = vulkan.vulkan_adapters(lambda name: loader)
    assert found is not None
    assert [(each.name, each.software) for each in found] == [
        ("RTX 4060", False),
        ("Iris Xe", False),
        ("Virtio", False),
        ("llvmpipe", True),
    ]
    assert loader.open == 0
    assert vulkan.vulkan_adapters(lambda name: Loader(fails="create")) == ()
    broken = Loader(fails="enumerate")
    assert (vulkan.vulkan_adapters(lambda name: broken), broken.open) == ((), 0)


class Com:
    """DXGI as it lies in memory: objects that begin with the address of a table of functions."""

    def __init__(self, *adapters: tuple[str, int, int, int]) -> None:
        self.adapters, self.alive, self._kept = adapters, 1, []  # type: ignore[var-annotated]
        self._factory = self._object({direct3d.ENUMERATE: (self._enumerate, (ctypes.c_uint, ctypes.c_void_p))})

    def CreateDXGIFactory1(self, identifier: Any, factory: Any) -> int:
        assert identifier.raw == bytes.fromhex("78ae0a776ff2ba4da829253c83d1b387")
        factory._obj.value = self._factory
        return 0

    def _object(self, methods: dict[int, tuple[Callable[..., int], tuple[Any, ...]]]) -> int:
        table = (ctypes.c_void_p * 16)()
        for place, (function, kinds) in {direct3d.RELEASE: (self._release, ()), **methods}.items():
            call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, *kinds)(function)
            table[place] = ctypes.cast(call, ctypes.c_void_p).value
            self._kept.append(call)
        thing = (ctypes.c_void_p * 1)(ctypes.addressof(table))
        self._kept += [table, thing]
        return ctypes.addressof(thing)

    def _release(self, this: int) -> int:
        self.alive -= 1
        return 0

    def _enumerate(self, this: int, index: int, adapter: int) -> int:
        if index >= len(self.adapters):
            return -2005270526  # DXGI_ERROR_NOT_FOUND
        name, vendor, device, flags = self.adapters[index]
        self.alive += 1

        def describe(this: int, description: int) -> int:
            packed = direct3d.DESCRIPTION.pack(
                name.encode("utf-16-le"), vendor, device, 0, 0, 8 << 30, 0, 0, bytes(8), flags
            )
            ctypes.memmove(description, packed, len(packed))
            return 0

        made = self._object({direct3d.DESCRIBE: (describe, (ctypes.c_void_p,))})
        ctypes.c_void_p.from_address(adapter).value = made
        return 0


def test_direct3ds_adapters_are_read_from_its_tables_and_given_back() -> None:
    com = Com(
        ("AMD Radeon™ 780M", 0x1002, 0x15BF, 0), ("Microsoft Basic Render Driver", 0x1414, 0x8C, 0), ("W", 1, 1, 2)
    )
    found = direct3d_adapters(lambda name: com)
    assert [(each.name, each.software) for each in found] == [
        ("AMD Radeon™ 780M", False),
        ("Microsoft Basic Render Driver", True),
        ("W", True),
    ]
    assert com.alive == 0
    # As the header of Windows has it: UINT64 sizes and a LUID behind four numbers, and the flags last.
    assert (direct3d.DESCRIPTION.size, struct.calcsize("<256s4I3Q8s")) == (312, 304)


def test_only_the_declared_set_of_operators_changes_and_a_damaged_file_stays_as_it_is() -> None:
    model = onnx.load_from_string(denoiser_graph())
    model.opset_import[0].version = 20
    model.opset_import.append(helper.make_opsetid("com.example", 30))
    newer = model.SerializeToString()
    older = declared_at_most(newer, 18)
    model.opset_import[0].version = 18
    assert onnx.load_from_string(older) == model
    assert declared_at_most(older, 18) == older
    for damaged in (b"no graph", newer[: len(newer) // 2], b"", b"\xff" * 12):
        assert declared_at_most(damaged, 18) == damaged


def test_a_layer_on_the_processor_is_refused_by_name() -> None:
    part = Part(CPU, ("AveragePool", "Shape"))
    module: Any = FakeOnnxRuntime(offered=[PROVIDER, CPU], placed=(Part(PROVIDER, ("Conv",)), part))
    with pytest.raises(BackendError, match="on the CPU: AveragePool"):
        webgpu._open(module, b"", "denoiser", "webgpu", "Iris Xe")
    assert module.sessions[0].asked == [(PROVIDER, webgpu.OPTIONS)]
    assert isinstance(module.sessions[0].options, SessionOptions)


def test_a_run_that_fails_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    half = webgpu.run_failed("1.27.0", "webgpu (Iris Xe)", "Program Add requires f16 but the device does not")
    assert "Iris Xe" in half.found and "--precision fp32" in half.remedy
    lost = webgpu.run_failed("1.27.0", "webgpu (Iris Xe)", "device lost")
    assert lost.remedy.startswith("run 'verdiff doctor --device webgpu'")


def test_a_process_computes_on_one_webgpu_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would give the first one's to whoever comes second."""
    monkeypatch.setattr(webgpu, "_TAKEN", [])
    monkeypatch.setattr(webgpu.silent, "onnxruntime", lambda: FakeOnnxRuntime(offered=[PROVIDER]))
    monkeypatch.setattr(webgpu, "require_adapter", lambda device: (RADEON,))
    for _ in range(2):
        with webgpu._opened_on("webgpu") as adapters:
            assert adapters == (RADEON,)
    with pytest.raises(BackendError, match="computes on webgpu already"), webgpu._opened_on("webgpu:software"):
        pass
