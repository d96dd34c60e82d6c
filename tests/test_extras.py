"""Installing: every message and page names a command that works, and every extra does what its line says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from verdiff import __version__
from verdiff.extras import WHEEL, install, upgrade

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
TEXTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("verdiff/**/*.py"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("examples/**/*.md"),
    *ROOT.glob("examples/**/*.py"),
]

# What the commands of an extra's line in the README import, beside the base; "engine" is any one inference engine.
TORCH, ENGINE = "torch", "engine"
NEEDS = {
    "cpu": {ENGINE},
    "gpu": {ENGINE, "cuda-core"},
    "webgpu": {ENGINE, "onnxruntime-webgpu"},
    "openvino": {ENGINE},
    "evaluate": {"scipy", "surface-distance", "matplotlib"},
    "anatomy": {"scipy", "scikit-image"},
    "igtl": {"fastcrc"},
    "ray": {"ray"},
    "export": {"onnx", "scipy", "surface-distance"},
    "train": {TORCH, "onnx", "onnxscript", "matplotlib"},
    "comparators": {TORCH, "onnx", "monai", "transformers"},
    "nnunetv2": {TORCH, "onnx", "nnunetv2"},
    "tensorrt": {"tensorrt", "onnx", "cuda-core", "nvidia-cuda-nvrtc"},
    "tensorrt-rtx": {"tensorrt-rtx-cu13-libs", "onnx", "cuda-core", "nvidia-cuda-nvrtc"},
    "pycuda": {"pycuda"},
    "sign": {"cryptography"},
    "dicom": {"pydicom", "highdicom", "pynetdicom"},
    "dev": {"pytest", "ruff", "mypy", "scikit-image", "monai", TORCH},
}


def brought(extra: str) -> set[str]:
    """The packages of an extra and of the extras it asks for."""
    found = set()
    for requirement in EXTRAS[extra]:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        inner = re.fullmatch(r"verdiff\[([\w,-]+)\]", requirement)
        if inner is not None:
            found |= {package for each in inner[1].split(",") for package in brought(each)}
        else:
            found.add(name[0])
    return found | ({ENGINE} if found & {"onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu", "openvino"} else set())


def line_of(extra: str) -> str:
    rows = (ROOT / "README.md").read_text("utf-8").split("| extra |")[1].split("\n\n")[0].splitlines()[2:]
    (row,) = [row for row in rows if f"`{extra}`" in row.split("|")[1]]
    return row


def test_every_extra_is_known_here() -> None:
    assert set(NEEDS) == set(EXTRAS)


@pytest.mark.parametrize("extra", list(EXTRAS))
def test_an_extra_brings_what_its_commands_import(extra: str) -> None:
    assert NEEDS[extra] - brought(extra) == set()


@pytest.mark.parametrize("extra", ["evaluate", "anatomy", "igtl", "ray", "export", "train"])
def test_an_extra_without_an_engine_says_what_it_stands_beside(extra: str) -> None:
    assert ENGINE not in brought(extra)
    assert re.search(r"beside `cpu`(, | or )`gpu`", line_of(extra))


@pytest.mark.parametrize("extra", [name for name in EXTRAS if TORCH in NEEDS[name]])
def test_whatever_brings_torch_pins_the_one_that_is_tested(extra: str) -> None:
    """A bare range, or a package that wants torch alone, would bring the newest build for CUDA."""
    pins = [requirement for each in ("train",) for requirement in EXTRAS[each] if requirement.startswith("torch")]
    assert pins == ["torch==2.13.*"]
    assert "torch" in brought(extra)


def test_what_pycuda_is_built_with_is_named() -> None:
    assert all(word in line_of("pycuda") for word in ("compiler", "cuda.h", "curand.h", "libcuda"))


def test_no_text_sends_a_reader_to_a_package_index_for_verdiff() -> None:
    wrong = re.compile(r"""pip install( --?[\w-]+)* ['"]?verdiff\b|['"]verdiff\[""")
    assert [path.relative_to(ROOT).as_posix() for path in TEXTS if wrong.search(path.read_text("utf-8"))] == [
        # Which says why not.
        "verdiff/extras.py"
    ]


def test_every_message_about_an_extra_is_made_by_the_one_function() -> None:
    by_hand = re.compile(r"""pip install (--[\w-]+ )?['"]?\.?\[""")
    modules = [path for path in ROOT.glob("verdiff/**/*.py") if path.name != "extras.py"]
    assert [path.name for path in modules if by_hand.search(path.read_text("utf-8"))] == []


def test_extras_in_messages_exist() -> None:
    called = re.compile(r"\binstall\(((?:['\"][\w,-]+['\"](?:, )?)+)")
    named = {
        name
        for path in ROOT.glob("verdiff/**/*.py")
        for call in called.findall(path.read_text("utf-8"))
        for words in re.findall(r"['\"]([\w,-]+)['\"]", call)
        for name in words.split(",")
        if name
    }
    assert {"cpu", "gpu", "anatomy", "evaluate", "train"} <= named <= set(EXTRAS)


def test_the_phrase_is_a_command_for_a_checkout_and_one_for_the_wheel() -> None:
    assert install("cpu") == f"pip install '.[cpu]' in verdiff's checkout, or with '{WHEEL}[cpu]' from its 'make wheel'"
    assert install("cpu", "gpu").startswith("pip install '.[cpu]' (or [gpu]) in verdiff's checkout")
    assert install(flags="--force-reinstall").startswith("pip install --force-reinstall . in")
    assert "'.[gpu,tensorrt]' 'tensorrt<11' in" in install("gpu,tensorrt", packages="'tensorrt<11'")
    assert upgrade().startswith("upgrade verdiff: ")


def test_the_wheel_in_the_phrase_is_this_version_s() -> None:
    assert f"verdiff-{__version__}-py3-none-any.whl" == WHEEL
