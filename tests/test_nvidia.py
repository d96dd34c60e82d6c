"""What the driver is asked and what is made of its answers, with the driver's two libraries played by fakes."""

from __future__ import annotations

from typing import Any

import pytest

from verdiff.errors import BackendError
from verdiff.nvidia import CUDA_LIBRARY, NVML_LIBRARY, InstalledDriver, read_driver, require_gpu

GIB = 1 << 30
CARDS = (("NVIDIA H200", 9, 0, 140 * GIB), ("NVIDIA RTX A4000", 8, 6, 16 * GIB))


class FakeCuda:
    """libcuda with these cards; every function answers through pointers and gives a status, as the real ones do."""

    def __init__(self, cards: tuple[tuple[str, int, int, int], ...] = CARDS, start: int = 0, version: int = 13000):
        self.cards, self.start, self.version = cards, start, version

    def cuInit(self, flags: int) -> int:
        return self.start

    def cuGetErrorString(self, status: int, out: Any) -> int:
        out._obj.value = {100: b"no CUDA-capable device is detected", 803: b"system has unsupported combination"}[
            status
        ]
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = len(self.cards)
        return 0

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = self.version
        return 0

    def cuDeviceGet(self, out: Any, index: int) -> int:
        out._obj.value = index
        return 0

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:
        out._obj.value = self.cards[device][{75: 1, 76: 2}[attribute]]
        return 0

    def cuDeviceGetName(self, out: Any, size: int, device: int) -> int:
        out.value = self.cards[device][0].encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: int) -> int:
        out._obj.value = self.cards[device][3]
        return 0

    def cuDeviceGetPCIBusId(self, out: Any, size: int, device: int) -> int:
        out.value = f"0000:{device:02d}:00.0".encode()
        return 0


class FakeNvml:
    """libnvidia-ml, where every card has this much free."""

    def __init__(self, free: int = 12 * GIB, status: int = 0):
        self.free, self.status = free, status

    def nvmlInit_v2(self) -> int:
        return self.status

    def nvmlSystemGetDriverVersion(self, out: Any, size: int) -> int:
        out.value = b"580.65.06"
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: bytes, out: Any) -> int:
        assert bus.startswith(b"0000:")
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, out: Any) -> int:
        out._obj.free = self.free
        return 0


def machine(cuda: FakeCuda | None = None, nvml: FakeNvml | None = None):  # type: ignore[no-untyped-def]
    """A loader of shared libraries that has these two."""

    def load(name: str) -> Any:
        found = {CUDA_LIBRARY: cuda, NVML_LIBRARY: nvml}[name]
        if found is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found

    return load


def test_driver_cuda_and_gpus_are_read() -> None:
    driver = read_driver(machine(FakeCuda(), FakeNvml()))
    assert (driver.version, driver.cuda) == ("580.65.06", (13, 0))
    assert [(gpu.index, gpu.name, gpu.sm, gpu.memory_bytes, gpu.free_bytes) for gpu in driver.gpus] == [
        (0, "NVIDIA H200", "90", 140 * GIB, 12 * GIB),
        (1, "NVIDIA RTX A4000", "86", 16 * GIB, 12 * GIB),
    ]


def test_a_minor_version_of_cuda_is_kept() -> None:
    assert read_driver(machine(FakeCuda(version=12080))).cuda == (12, 8)


@pytest.mark.parametrize("nvml", [None, FakeNvml(status=9)])
def test_without_the_management_library_free_memory_and_version_are_unknown(nvml: FakeNvml | None) -> None:
    driver = read_driver(machine(FakeCuda(), nvml))
    assert (driver.version, driver.gpus[0].free_bytes) == ("", None)


def test_a_part_of_a_card_is_not_given_the_whole_cards_free_memory() -> None:
    assert read_driver(machine(FakeCuda(), FakeNvml(free=100 * GIB))).gpus[1].free_bytes is None


def test_no_driver_is_named_with_the_library_and_a_remedy() -> None:
    with pytest.raises(BackendError, match="no NVIDIA driver") as caught:
        read_driver(machine())
    assert "--device cpu" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [(100, "no CUDA-capable device", "CUDA_VISIBLE_DEVICES"), (803, "unsupported combination", "restart")],
)
def test_a_driver_that_does_not_start_says_why(status: int, said: str, remedy: str) -> None:
    with pytest.raises(BackendError, match=said) as caught:
        read_driver(machine(FakeCuda(start=status)))
    assert remedy in caught.value.remedy


def test_a_driver_without_gpus_is_refused() -> None:
    with pytest.raises(BackendError, match="no GPU"):
        read_driver(machine(FakeCuda(cards=())))


@pytest.mark.parametrize(("device", "name"), [("cuda", "NVIDIA H200"), ("cuda:1", "NVIDIA RTX A4000")])
def test_a_device_is_found_by_its_number(device: str, name: str) -> None:
    driver, gpu = require_gpu(device, machine(FakeCuda()))
    assert (isinstance(driver, InstalledDriver), gpu.name) == (True, name)


def test_a_number_beyond_the_last_gpu_lists_those_there_are() -> None:
    with pytest.raises(BackendError, match="cuda:2") as caught:
        require_gpu("cuda:2", machine(FakeCuda()))
    assert "cuda:1 (NVIDIA RTX A4000)" in caught.value.expected


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu", "cuda:1:2"])
def test_what_names_no_gpu_is_refused(device: str) -> None:
    with pytest.raises(BackendError, match="expected: cuda or cuda:N"):
        require_gpu(device, machine(FakeCuda()))
