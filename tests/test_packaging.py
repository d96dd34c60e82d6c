"""What the wheel carries, and what installing it asks for."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import verdiff
from tests.peers import needs

ROOT = Path(__file__).resolve().parents[1]
VIEWER = ROOT / "verdiff/page/assets/viewer.js"
EXTRAS = {
    *("cpu", "gpu", "webgpu", "openvino", "tensorrt", "tensorrt-rtx", "pycuda", "igtl", "sign", "ray"),
    *("train", "export", "evaluate", "comparators", "nnunetv2", "anatomy", "dicom", "dev"),
}
MIB = 1 << 20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_it_carries_the_default_model_unchanged(wheel: Path, names: set[str]) -> None:
    assert "verdiff/models/spine-mr.verdiff" in names
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("verdiff/models/spine-mr.verdiff")
    assert packed == (ROOT / "verdiff/models/spine-mr.verdiff").read_bytes()


def test_the_default_model_fits_twenty_megabytes() -> None:
    assert (ROOT / "verdiff/models/spine-mr.verdiff").stat().st_size <= 20_000_000


def test_it_is_smaller_than_25_mib(wheel: Path) -> None:
    assert wheel.stat().st_size < 25 * MIB


def test_it_carries_types_configurations_and_licences(names: set[str]) -> None:
    configurations = {path.relative_to(ROOT).as_posix() for path in (ROOT / "verdiff/train/configs").glob("*.toml")}
    assert configurations
    assert {"verdiff/py.typed", *configurations} <= names
    licences = {name.rsplit("/", 1)[-1] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


@needs(str(VIEWER))
def test_it_carries_the_viewer_of_reports_with_the_licences_in_it(wheel: Path, names: set[str]) -> None:
    assert VIEWER.relative_to(ROOT).as_posix() in names
    with zipfile.ZipFile(wheel) as archive:
        viewer = archive.read(VIEWER.relative_to(ROOT).as_posix()).decode("utf-8")
    begins, script = viewer[:40_000], viewer[viewer.index("*/") :]
    assert "@niivue/niivue 0.69.0, BSD-2-Clause" in begins and "Copyright (c) 2021, Niivue" in begins
    assert len(viewer) < 1_200_000 and "</script" not in script.lower()
    pinned = json.loads((ROOT / "web/package.json").read_text("utf-8"))["dependencies"]["@niivue/niivue"]
    notice = (ROOT / "NOTICE").read_text("utf-8")
    packages = re.findall(r"^(@?[\w./-]+) [\d.]+, [\w-]+$", begins, re.MULTILINE)
    assert f"NiiVue {pinned}" in notice and f"@niivue/niivue {pinned}" in begins
    assert packages and not [name for name in packages if name not in notice and name != "@niivue/niivue"]


def test_it_carries_the_styles_of_pages(names: set[str]) -> None:
    assert {f"verdiff/page/assets/{name}.css" for name in ("frame", "scan")} <= names


def test_it_carries_every_module_and_nothing_but_the_package(names: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "verdiff").rglob("*.py")}
    packed = {name for name in names if name.endswith(".py")}
    assert packed == modules
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"verdiff"}
    assert not [name for name in names if "test" in name.lower().split("/")[:-1] or name.endswith((".pyc", ".nii.gz"))]


def test_its_version_is_the_package_s(metadata: Message) -> None:
    assert metadata["Version"] == verdiff.__version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_base_install_is_lean_and_names_no_inference_engine(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    base = {requirement.split(">")[0].lower() for requirement in requirements if "extra ==" not in requirement}
    assert base == {"numpy", "simpleitk", "pillow", "typer"}


def test_the_extras_are_the_documented_ones(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS


def test_the_command_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "verdiff = verdiff.cli:main" in archive.read(name).decode()


def test_onnx_runtimes_packages_are_never_asked_for_together() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra, requirements in project["optional-dependencies"].items():
        engines = {r.split(">")[0].split("[")[0] for r in requirements if r.startswith("onnxruntime")}
        own = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu", "webgpu": "onnxruntime-webgpu"}
        assert engines <= {own.get(extra, "")}, extra


def test_the_constraints_pin_the_torch_that_training_asks_for() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "torch==2.13.0" in pins
    assert "torch==2.13.*" in project["optional-dependencies"]["train"]
