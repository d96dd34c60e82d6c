"""The whole report: what works, what does not, and that nothing was changed to find out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.machines import DRIVER, RTX
from tests.runtime.device.null_driver import NullDriver
from verdiff import doctor
from verdiff.doctor import system
from verdiff.doctor.report import Check


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_this_machine_is_healthy_for_the_cpu_and_the_report_changes_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "work").mkdir()
    checks = doctor.examine(tmp_path / "work")
    there = by_name(checks)
    assert doctor.healthy(checks), [check for check in checks if check.state == doctor.BAD]
    assert there["model spine-mr"].state == doctor.GOOD
    assert there["engines"].found == "none in the cache"
    assert not cache.exists()
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA driver")
def test_a_gpu_that_is_asked_for_and_not_there_is_a_problem_with_its_remedy(tmp_path: Path, cache: Path) -> None:
    checks = doctor.examine(tmp_path, device="cuda:0")
    there = by_name(checks)
    assert there["NVIDIA driver"].state == there["device cuda:0"].state == doctor.BAD
    assert "--device cpu" in there["device cuda:0"].remedy
    assert by_name(doctor.examine(tmp_path))["NVIDIA driver"].state == doctor.NOTE


def test_a_gpu_that_the_one_installed_tensorrt_is_not_for_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    """This environment's TensorRT-RTX on an H200, where `verdiff build` would refuse too."""
    pytest.importorskip("tensorrt_rtx_bindings")
    monkeypatch.setattr("verdiff.nvidia.read_driver", lambda: DRIVER)
    monkeypatch.setattr("verdiff.nvidia.require_gpu", lambda name: (DRIVER, DRIVER.gpus[0]))
    monkeypatch.setattr("verdiff.runtime.device.cuda_core.open_driver", lambda name: NullDriver())
    monkeypatch.setattr("verdiff.doctor.device.has_provider", lambda: False)
    found = "verdiff.engines.doctor.installed.find_package"
    monkeypatch.setattr(found, lambda name, lean_will_do: RTX.package if "rtx" in name else None)
    checks = by_name(doctor.examine(tmp_path, device="cuda"))
    assert checks["device cuda"].state == doctor.GOOD
    way = checks["device cuda tensorrt-rtx"]
    assert (way.state, "does not run on NVIDIA H200, SM 90" in way.found) == (doctor.BAD, True)


def test_a_device_of_no_known_kind_is_a_problem_of_a_whole_report(tmp_path: Path, cache: Path) -> None:
    checks = doctor.examine(tmp_path, device="gpu")
    assert by_name(checks)["device gpu"].remedy == "choose cpu, cuda, cuda:N, webgpu or webgpu:software"
    assert not doctor.healthy(checks)
    assert {check.name for check in doctor.examine(tmp_path)} <= by_name(checks).keys()


@pytest.mark.skipif(os.name != "posix", reason="a folder somebody stands in can be deleted on POSIX")
def test_a_deleted_working_folder_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    check = by_name(doctor.examine())["disk"]
    assert (check.state, check.remedy) == (doctor.BAD, "change into a folder that exists")


def test_a_cache_that_may_not_be_looked_for_is_a_problem_and_its_disk_is_that_of_the_nearest_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / ("x" * 300)))
    checks = by_name(doctor.examine(tmp_path))
    assert (checks["engines"].state, checks["disk of engines"].state) == (doctor.BAD, doctor.GOOD)


def test_a_user_without_a_home_has_no_disk_of_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VERDIFF_CACHE", raising=False)
    monkeypatch.setattr("verdiff.engines.store._user_cache", homeless)
    check = system.check_disks(tmp_path)[1]
    assert (check.state, "VERDIFF_CACHE" in check.remedy) == (doctor.NOTE, True)


def test_the_report_has_a_line_and_a_remedy_a_problem() -> None:
    checks = [Check("disk", doctor.BAD, "0.1 GB free", "free at least 1 GB")]
    assert doctor.lines(checks)[1].endswith("to do: free at least 1 GB")
    assert doctor.as_json(checks) == {
        "healthy": False,
        "checks": [{"name": "disk", "state": "problem", "found": "0.1 GB free", "remedy": "free at least 1 GB"}],
    }


def test_long_names_keep_the_columns_together() -> None:
    lines = doctor.lines([Check("a", doctor.GOOD, "x"), Check("engine " + "m" * 60, doctor.NOTE, "y", "z")])
    assert lines[0].index("x") == lines[1].index("y") == lines[2].index("to do")


def test_a_note_is_no_reason_to_fail() -> None:
    assert doctor.healthy([Check("TensorRT", doctor.NOTE, "not installed", "pip install it")])
    assert not doctor.healthy([Check("disk", doctor.BAD, "full")])


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.setattr(system, "LEAST_FREE_GB", 1e9)
    assert [check.state for check in system.check_disks(tmp_path)] == [doctor.BAD, doctor.BAD]


def test_a_folder_that_does_not_exist_is_a_problem(tmp_path: Path, cache: Path) -> None:
    check = system.check_disks(tmp_path / "nowhere")[0]
    assert (check.state, check.remedy) == (doctor.BAD, "work in a folder that exists")


@pytest.mark.parametrize(("free", "state"), [(0.1, doctor.BAD), (8.0, doctor.GOOD), (None, doctor.NOTE)])
def test_too_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch, free: float | None, state: str) -> None:
    monkeypatch.setattr("verdiff.runtime.memory.available_bytes", lambda: None if free is None else int(free * 1e9))
    check = system.check_memory()
    assert check.state == state
    assert (state == doctor.BAD) == ("raise the container's limit" in check.remedy)


@pytest.mark.parametrize(
    ("flags", "said"),
    [("fpu avx2 avx512_bf16", "avx2, avx512_bf16; bf16 in hardware"), ("fpu avx2", "avx2; no bf16: use fp32")],
)
def test_the_processor_s_instructions_are_read(tmp_path: Path, flags: str, said: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n", "utf-8")
    assert system.check_processor(tmp_path / "cpuinfo").found.endswith(said)


def test_a_system_that_does_not_list_its_instructions_is_no_problem(tmp_path: Path) -> None:
    assert system.check_processor(tmp_path / "cpuinfo").state == doctor.NOTE


def test_missing_training_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "version_of", lambda name: None if name == "torch" else "1.0")
    check = system.check_training()
    assert (check.state, check.found) == (doctor.NOTE, "torch not installed")
    assert "[train]" in check.remedy
