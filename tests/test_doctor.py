"""The doctor finds what works and what does not, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from verdiff import doctor
from verdiff.errors import BundleError


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


def test_the_built_in_model_doubles_its_input() -> None:
    model = onnx.load_from_string(doctor.DOUBLING_MODEL)
    onnx.checker.check_model(model)
    assert [(node.op_type, list(node.input)) for node in model.graph.node] == [("Add", ["a", "a"])]


def test_backends_that_are_installed_are_made_to_compute(tmp_path: Path) -> None:
    checks = by_name(doctor.examine(tmp_path))
    for name in ("onnxruntime", "openvino"):
        assert checks[name].state == doctor.GOOD
        assert checks[name].found.endswith("works")


def test_a_backend_that_fails_is_a_problem_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> float:
        raise ImportError("libonnxruntime.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_double_onnxruntime", broken)
    checks = doctor.examine(tmp_path)
    assert "cannot open shared object file" in by_name(checks)["onnxruntime"].found
    assert not doctor.healthy(checks)


def test_a_backend_that_computes_wrongly_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_double_openvino", lambda: 5.0)
    assert by_name(doctor.examine(tmp_path))["openvino"].state == doctor.BAD


def test_without_any_backend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    checks = doctor.examine(tmp_path)
    assert "pip install 'verdiff[cpu]'" in by_name(checks)["inference"].remedy
    assert not doctor.healthy(checks)


def test_both_onnxruntime_packages_are_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name == "onnxruntime-gpu" else real(name))
    assert by_name(doctor.examine(tmp_path))["onnxruntime files"].state == doctor.BAD


def test_a_damaged_shipped_bundle_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import verdiff.bundle

    def damaged(path: Path) -> None:
        raise BundleError("the hash of graphs/prior.fp32.onnx is wrong", "the one in the manifest", "get it again")

    monkeypatch.setattr(verdiff.bundle, "shipped_models", lambda: {"spine-mr": tmp_path / "spine-mr.verdiff"})
    monkeypatch.setattr(verdiff.bundle, "open_bundle", damaged)
    check = by_name(doctor.examine(tmp_path))["model spine-mr"]
    assert (check.state, "hash" in check.found) == (doctor.BAD, True)


def test_the_shipped_default_model_is_verified(tmp_path: Path) -> None:
    assert by_name(doctor.examine(tmp_path))["model spine-mr"].state == doctor.GOOD


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 1e9)
    assert by_name(doctor.examine(tmp_path))["disk"].state == doctor.BAD


def test_the_report_has_a_line_and_a_remedy_a_problem() -> None:
    checks = [doctor.Check("disk", doctor.BAD, "0.1 GB free", "free at least 1 GB")]
    assert doctor.lines(checks)[1].endswith("to do: free at least 1 GB")
    assert doctor.as_json(checks) == {
        "healthy": False,
        "checks": [{"name": "disk", "state": "problem", "found": "0.1 GB free", "remedy": "free at least 1 GB"}],
    }
