"""The hosts in C++ and JavaScript hold to docs/contract.md: Python's labels, the golden test, every hash."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from platform import machine
from typing import Any, Protocol
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.native.conftest import AGREEMENT, EXAMPLE, ROOT, Expected
from tests.native.scans import CODES, HEADER, KIND, ROWS, small_scan, with_bytes
from tests.peers import needs, program
from verdiff.bundle.golden import pack_golden, unpack_golden
from verdiff.bundle.layout import GOLDEN
from verdiff.export.draft import Draft
from verdiff.imaging import read_labels, read_volume

LIBRARY = "libonnxruntime.so.1"
CPP, JS = ROOT / "native" / "cpp", ROOT / "native" / "js"
HEADERS = ("nlohmann/json.hpp", "nifti/nifti1_io.h", "openssl/evp.h")
CPP_PEERS = ("cmake", "g++", *(f"/usr/include/{name}" for name in HEADERS))


def first_of(*paths: Path) -> Path:
    """The first path that is there; the first of all where none is."""
    return next((path for path in paths if path.exists()), paths[0])


# `make peers` puts the headers of a newer Debian into .peers, where this one has no package of them.
ORT_HEADERS = first_of(*(root / "usr/include/onnxruntime" for root in (Path("/"), ROOT / ".peers" / "onnxruntime")))
ORT_LIBRARY = first_of(
    JS / "node_modules/onnxruntime-node/bin/napi-v6/linux" / ("arm64" if machine() == "aarch64" else "x64") / LIBRARY,
    *Path("/usr/lib").glob(f"*/{LIBRARY}"),
)
ORT_PEERS = (*CPP_PEERS, str(ORT_HEADERS / "onnxruntime_cxx_api.h"), str(ORT_LIBRARY))
ORT_BUILD = (f"-DONNXRUNTIME_INCLUDE={ORT_HEADERS}", f"-DONNXRUNTIME_LIBRARY={ORT_LIBRARY}")
HOSTS = [
    pytest.param("cpp", marks=needs(*CPP_PEERS)),
    pytest.param("cpp-onnxruntime", marks=needs(*ORT_PEERS)),
    pytest.param("js", marks=needs("node", str(JS / "node_modules" / "onnxruntime-node" / "package.json"))),
]


Arrays = dict[str, NDArray[Any]]


class Host(Protocol):
    def __call__(self, *words: Path) -> subprocess.CompletedProcess[str]: ...


def built(build: Path, *options: str) -> Path:
    """The C++ host's program, made with options of CMake."""
    subprocess.run(["cmake", "-S", CPP, "-B", build, *options], check=True, capture_output=True, text=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True, text=True)
    return build / "verdiff-segment"


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host's own program: model, scan, mask."""
    if request.param == "js":
        command = [str(program("node")), str(JS / "segment.mjs")]
    elif request.param == "cpp-onnxruntime":
        command = [str(built(tmp_path_factory.mktemp("build"), "-DVERDIFF_ENGINE=onnxruntime", *ORT_BUILD))]
    else:
        openvino = pytest.importorskip("openvino")
        found = f"-DOpenVINO_DIR={openvino.utils.get_cmake_path()}"
        command = [str(built(tmp_path_factory.mktemp("build"), found))]

    def run(*words: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], capture_output=True, text=True)

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


ODD: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "cut short.gz": lambda data: gzip.compress(data)[:-2000],
    "another checksum.gz": lambda data: with_bytes(gzip.compress(data), len(gzip.compress(data)) - 8, bytes(4)),
    "no orientation": lambda data: with_bytes(data, CODES, bytes(4)),
    "two orientations": lambda data: with_bytes(
        with_bytes(data, CODES, struct.pack("<hh", 1, 1)), ROWS, struct.pack("<12f", *np.eye(3, 4).ravel())
    ),
    "no NIfTI": lambda data: b"hello",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("kind", ODD)
def test_a_host_refuses_an_odd_scan_in_a_line_and_writes_no_mask(
    host: Host, model: Path, tmp_path: Path, kind: str
) -> None:
    scan, mask = tmp_path / ("scan.nii.gz" if kind.endswith(".gz") else "scan.nii"), tmp_path / "mask.nii"
    scan.write_bytes(ODD[kind](small_scan()))
    done = host(model, scan, mask)
    assert done.returncode == 1 and not mask.exists(), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(("verdiff-segment: ", "segment.mjs: "))


@pytest.mark.parametrize("name", ["nowhere/mask.nii", "mask.png", "mask.gz", "mask.tar.gz"])
def test_a_mask_that_could_not_be_written_is_refused(host: Host, model: Path, tmp_path: Path, name: str) -> None:
    done = host(model, EXAMPLE, tmp_path / name)
    assert done.returncode == 1 and name.split("/")[-1] in done.stderr and not any(tmp_path.iterdir())


CRAFTED: dict[str, tuple[str, Callable[[Arrays], Arrays]]] = {
    "a short uncertainty": ("another size", lambda golden: golden | {"uncertainty": golden["uncertainty"][:1]}),
    "no labels": ("no file labels.npy", lambda golden: {name: golden[name] for name in golden if name != "labels"}),
    "a flat image": ("[N, 1, H, W]", lambda golden: golden | {"image": golden["image"][:, 0]}),
    "labels of another kind": ("labels.npy is no array", lambda golden: golden | {"labels": golden["labels"] * 1.0}),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_host_refuses_a_golden_that_proves_nothing(host: Host, draft: Draft, tmp_path: Path, kind: str) -> None:
    why, change = CRAFTED[kind]
    golden = pack_golden(change(unpack_golden(draft.files[GOLDEN])))
    other, mask = tmp_path / "other.verdiff", tmp_path / "mask.nii"
    replace(draft, files={**draft.files, GOLDEN: golden}).write(other)
    done = host(other, EXAMPLE, mask)
    assert done.returncode == 1 and why in done.stderr and not mask.exists()


def test_a_host_names_the_manifest_that_a_zip_lacks(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "other.verdiff"
    with ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "no bundle")
    done = host(other, EXAMPLE, tmp_path / "mask.nii")
    assert done.returncode == 1 and "manifest.json" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_scan_is_the_file_that_was_named_and_no_other(host: Host, model: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(EXAMPLE.read_bytes())
    for name in ("scan.nii", "scan"):
        done = host(model, tmp_path / name, tmp_path / "mask.nii")
        assert done.returncode == 1 and str(tmp_path / name) in done.stderr and not (tmp_path / "mask.nii").exists()


def test_wrong_words_are_told_with_the_right_ones(host: Host, model: Path) -> None:
    done = host(model, EXAMPLE)
    assert done.returncode == 2 and done.stderr.startswith("usage: ")


@pytest.mark.parametrize("kind", ["int16", "float64"])
def test_a_scan_of_these_voxels_has_a_compressed_mask(
    host: Host, model: Path, expected: Expected, tmp_path: Path, kind: str
) -> None:
    scan, mask = tmp_path / "scan.nii", tmp_path / "mask.nii.gz"
    data = small_scan()
    if kind == "float64":
        voxels = np.frombuffer(data, "<i2", 3 * 52 * 67, HEADER).astype("<f8")
        data = with_bytes(data[:HEADER], KIND, struct.pack("<hh", 64, 64)) + voxels.tobytes()
    scan.write_bytes(data)
    done = host(model, scan, mask)
    assert (done.returncode, done.stderr) == (0, "")
    assert mask.read_bytes()[:2] == b"\x1f\x8b"
    assert (read_labels(mask).array == expected(scan)).mean() >= AGREEMENT


def test_a_host_keeps_a_file_that_is_there(host: Host, model: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii"
    mask.write_bytes(b"mine")
    assert host(model, EXAMPLE, mask).returncode == 1
    assert mask.read_bytes() == b"mine"


OLD = """
typedef struct { const void* (*api)(unsigned); const char* (*version)(void); } Base;
static const void* api(unsigned wanted) { (void)wanted; return 0; }
static const char* version(void) { return "1.2.3"; }
const Base* OrtGetApiBase(void) { static const Base base = {api, version}; return &base; }
"""


@needs(*ORT_PEERS)
def test_an_onnx_runtime_that_is_older_than_the_headers_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "old.c").write_text(OLD)
    old = tmp_path / "old"
    old.mkdir()
    making = ["g++", "-x", "c", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-o", old / LIBRARY, tmp_path / "old.c"]
    subprocess.run(making, check=True, capture_output=True, text=True)
    host = built(
        tmp_path / "build", "-DVERDIFF_ENGINE=onnxruntime", ORT_BUILD[0], f"-DONNXRUNTIME_LIBRARY={old / LIBRARY}"
    )
    done = subprocess.run([host, model, EXAMPLE, tmp_path / "mask.nii"], capture_output=True, text=True)
    assert done.returncode == 1 and "ONNX Runtime 1.2.3 is older than the headers" in done.stderr


@needs(*CPP_PEERS)
def test_an_engine_that_there_is_none_for_is_refused_with_those_there_are(tmp_path: Path) -> None:
    command = ["cmake", "-S", CPP, "-B", tmp_path, "-DVERDIFF_ENGINE=tract"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "openvino and onnxruntime are known" in done.stderr
