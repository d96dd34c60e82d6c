"""The hosts in C++ and JavaScript hold to docs/contract.md: Python's labels, the golden test, every hash."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from tests.native.conftest import AGREEMENT, EXAMPLE, ROOT, Expected
from tests.peers import needs, program
from verdiff.bundle.golden import pack_golden, unpack_golden
from verdiff.bundle.layout import GOLDEN
from verdiff.export.draft import Draft
from verdiff.imaging import read_labels, read_volume

CPP, JS = ROOT / "native" / "cpp", ROOT / "native" / "js"
HEADERS = ("nlohmann/json.hpp", "nifti/nifti1_io.h", "openssl/evp.h")
HOSTS = [
    pytest.param("cpp", marks=needs("cmake", "g++", *(f"/usr/include/{name}" for name in HEADERS))),
    pytest.param("js", marks=needs("node", str(JS / "node_modules" / "onnxruntime-node" / "package.json"))),
]


class Host(Protocol):
    def __call__(self, model: Path, scan: Path, mask: Path) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host's own program: model, scan, mask."""
    if request.param == "js":
        command = [str(program("node")), str(JS / "segment.mjs")]
    else:
        openvino = pytest.importorskip("openvino")
        build = tmp_path_factory.mktemp("build")
        found = f"-DOpenVINO_DIR={openvino.utils.get_cmake_path()}"
        subprocess.run(["cmake", "-S", CPP, "-B", build, found], check=True, capture_output=True, text=True)
        subprocess.run(["cmake", "--build", build], check=True, capture_output=True, text=True)
        command = [str(build / "verdiff-segment")]

    def run(model: Path, scan: Path, mask: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, model, scan, mask], capture_output=True, text=True)

    return run


@pytest.mark.parametrize("name", ["example", "oblique"])
def test_a_host_gives_the_labels_of_python(
    host: Host, model: Path, oblique: Path, expected: Expected, tmp_path: Path, name: str
) -> None:
    scan, mask = EXAMPLE if name == "example" else oblique, tmp_path / "mask.nii"
    done = host(model, scan, mask)
    assert (done.returncode, done.stderr) == (0, "")
    found, labels = read_labels(mask), expected(scan)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (found.array == labels).mean() >= AGREEMENT
    ours, theirs = found.geometry, read_volume(scan).geometry
    assert ours.spacing_mm == theirs.spacing_mm and np.allclose(ours.matrix, theirs.matrix, atol=1e-6)
    assert np.allclose(ours.origin_mm, theirs.origin_mm, atol=1e-4)


def test_a_host_refuses_a_damaged_bundle(host: Host, model: Path, tmp_path: Path) -> None:
    damaged, mask = tmp_path / "damaged.verdiff", tmp_path / "mask.nii"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    done = host(damaged, EXAMPLE, mask)
    assert done.returncode == 1 and "damaged or missing: graphs/" in done.stderr and not mask.exists()


@pytest.mark.parametrize("array", ["labels", "uncertainty", "noise"])
def test_a_host_refuses_a_model_whose_golden_it_does_not_meet(
    host: Host, draft: Draft, tmp_path: Path, array: str
) -> None:
    golden = unpack_golden(draft.files[GOLDEN])
    golden[array] = golden[array].copy()
    golden[array].flat[: golden[array].size // 100] += 1
    other, mask = tmp_path / "other.verdiff", tmp_path / "mask.nii"
    replace(draft, files={**draft.files, GOLDEN: pack_golden(golden)}).write(other)
    done = host(other, EXAMPLE, mask)
    assert done.returncode == 1 and f"golden: other {array}" in done.stderr and not mask.exists()


def test_a_host_keeps_a_file_that_is_there(host: Host, model: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii"
    mask.write_bytes(b"mine")
    assert host(model, EXAMPLE, mask).returncode == 1
    assert mask.read_bytes() == b"mine"
