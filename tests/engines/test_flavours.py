"""Which TensorRT is installed is found without importing it, and a folder of type stubs is not taken for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from verdiff.engines import Package, find_package, installed_flavours, require_package
from verdiff.errors import BackendError
from verdiff.extras import install as how_to_install


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation where nothing of TensorRT is but what a test puts into this folder."""
    # What another test imported is found without looking anywhere.
    for module in [name for name in sys.modules if name.startswith("tensorrt")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    # Editable installs and the like find modules without sys.path.
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "PathFinder" in repr(finder)])
    return tmp_path


def install(site: Path, module: str, distribution: str, version: str) -> None:
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise ImportError('it must not be imported to be found')\n", "utf-8")
    described = site / f"{distribution}-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", "utf-8")


def test_nothing_installed_names_the_extra(site: Path) -> None:
    assert installed_flavours() == ()
    with pytest.raises(BackendError) as caught:
        require_package("tensorrt_rtx")
    assert "TensorRT-RTX is not installed (installed: none)" in caught.value.found
    assert caught.value.remedy == how_to_install("tensorrt-rtx")


@pytest.mark.parametrize(
    ("module", "distribution", "expected"),
    [
        ("tensorrt", "tensorrt_cu13_bindings", Package("tensorrt", "tensorrt", "1.2.3", "13")),
        ("tensorrt", "tensorrt_cu12_bindings", Package("tensorrt", "tensorrt", "1.2.3", "12")),
        ("tensorrt", "tensorrt", Package("tensorrt", "tensorrt", "1.2.3", "")),
        ("tensorrt_bindings", "tensorrt_cu13_bindings", Package("tensorrt", "tensorrt_bindings", "1.2.3", "13")),
        ("tensorrt_rtx", "tensorrt_rtx", Package("tensorrt_rtx", "tensorrt_rtx", "1.2.3", "")),
        (
            "tensorrt_rtx_bindings",
            "tensorrt_rtx_cu13_bindings",
            Package("tensorrt_rtx", "tensorrt_rtx_bindings", "1.2.3", "13"),
        ),
    ],
)
def test_every_way_to_install_it_is_found(site: Path, module: str, distribution: str, expected: Package) -> None:
    install(site, module, distribution, "1.2.3")
    assert find_package(expected.flavour) == expected
    assert installed_flavours() == (expected.flavour,)


def test_stubs_alone_are_not_tensorrt(site: Path) -> None:
    (site / "tensorrt").mkdir()
    (site / "tensorrt" / "__init__.pyi").write_text("class Builder: ...\n", "utf-8")
    assert find_package("tensorrt") is None


def test_the_lean_runtime_serves_those_who_only_run(site: Path) -> None:
    install(site, "tensorrt_lean", "tensorrt_lean_cu13_bindings", "11.4.0.106")
    assert find_package("tensorrt") is None
    assert find_package("tensorrt", lean_will_do=True) == Package(
        "tensorrt", "tensorrt_lean", "11.4.0.106", "13", lean=True
    )
    assert find_package("tensorrt_rtx", lean_will_do=True) is None
