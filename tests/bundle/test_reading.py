"""What opens, what must not, and that damage anywhere is noticed."""

from __future__ import annotations

import functools
import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle.attacks import ATTACKS
from tests.bundle.factory import FILES, GOLDEN_ARRAYS, make_bundle
from verdiff.bundle import GOLDEN, MANIFEST, Bundle, graph_name, layout, open_bundle, reading
from verdiff.errors import BundleError


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_by_name(tmp_path: Path, attack: str) -> None:
    make, words = ATTACKS[attack]
    path = make(tmp_path / "bundle")
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    assert words in str(caught.value)
    assert caught.value.found and caught.value.expected and caught.value.remedy


def test_every_attack_says_something_of_its_own() -> None:
    shared = {"without its end", "not allowed", "is a link", "not a zip", "two files of one name", "no manifest.json"}
    words = [text for _, text in ATTACKS.values() if text not in shared]
    assert len(set(words)) > 0.75 * len(words)


@pytest.mark.parametrize("name", ["bundle.verdiff", "bundle"])
def test_a_good_bundle_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / name)
    assert {each: bundle.read(each) for each in bundle.manifest.files} == FILES
    assert bundle.graph("denoiser") == FILES[graph_name("denoiser")]
    assert bundle.graph("denoiser", "fp16") == b"half"
    assert bundle.precisions("denoiser") == ("fp32", "fp16")
    assert bundle.precisions("pipeline") == ()
    assert bundle.has("prior") and bundle.has("golden") and bundle.has("denoiser", "fp16")
    assert not bundle.has("pipeline") and not bundle.has("prior", "fp16")
    np.testing.assert_equal(bundle.golden(), GOLDEN_ARRAYS)


def test_folder_and_zip_are_the_same_bundle(tmp_path: Path) -> None:
    folder, packed = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b.verdiff")
    assert folder.manifest == packed.manifest
    assert folder.manifest_sha256 == packed.manifest_sha256
    assert folder.read(MANIFEST) == packed.read(MANIFEST)


def test_a_folder_packed_by_another_tool_opens(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "a").path
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    assert open_bundle(tmp_path / "b.zip").manifest.model_id == "tiny-mr"


def test_a_zip_written_to_a_stream_opens(tmp_path: Path) -> None:
    """Such a zip gives sizes only after each file and in its index (PKWARE APPNOTE 4.4.4, bit 3)."""
    folder = make_bundle(tmp_path / "a").path

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError("a stream")

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in [MANIFEST, *FILES]:
            archive.write(folder / name, name)
    (tmp_path / "b.zip").write_bytes(stream.getvalue())
    assert open_bundle(tmp_path / "b.zip").graph("prior") == FILES[graph_name("prior")]


def test_a_bundle_larger_than_any_model_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "a")
    monkeypatch.setattr(layout, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(BundleError, match="at most 1,000 bytes in all"):
        open_bundle(tmp_path / "a")


def test_a_file_exchanged_for_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a")
    path = bundle.path / graph_name("prior")
    path.unlink()
    os.mkfifo(path)
    assert bundle.read(graph_name("prior")) == FILES[graph_name("prior")]
    with pytest.raises(BundleError, match="no plain file"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["bundle.verdiff", "bundle"])
def test_a_bundle_that_was_opened_needs_its_place_no_more(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / name)
    make_bundle(tmp_path / name, files={graph_name("prior"): b"new"}, version="2.0.0")
    assert {each: bundle.read(each) for each in bundle.manifest.files} == FILES
    shutil.rmtree(tmp_path / name) if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
    assert {each: bundle.read(each) for each in bundle.manifest.files} == FILES


def test_a_file_in_memory_is_not_touched_by_a_change_in_place(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.verdiff")
    held = bundle.in_memory([graph_name("prior")])
    bundle.path.write_bytes(bytes(10))
    assert held.graph("prior") == FILES[graph_name("prior")]
    assert held.precisions("denoiser") == bundle.precisions("denoiser")
    with pytest.raises(BundleError, match="in memory"):
        held.graph("denoiser")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list what is open")
@pytest.mark.parametrize("name", ["bundle.verdiff", "bundle"])
def test_a_bundle_that_nobody_refers_to_and_one_in_memory_hold_nothing_open(tmp_path: Path, name: str) -> None:
    def is_open() -> bool:
        links = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if os.path.lexists(each)]
        return any(link.startswith(str(tmp_path)) for link in links)

    bundle = make_bundle(tmp_path / name)
    assert is_open()
    held = bundle.in_memory([graph_name("prior")])
    del bundle
    assert not is_open()
    assert held.read(graph_name("prior")) == FILES[graph_name("prior")]


@pytest.mark.parametrize("name", ["bundle.verdiff", "bundle"])
def test_opening_while_a_bundle_is_replaced_gives_the_old_or_the_new_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make_bundle(path, version="1.0.0", limits=("short",))
    done = Event()

    def replace() -> None:
        for turn in range(60):
            make_bundle(path, version=f"1.0.{turn % 2}", limits=("short", "x" * 997)[: 1 + turn % 2])
        done.set()

    writer = Thread(target=replace)
    writer.start()
    versions = set()
    try:
        while not done.is_set():
            bundle = open_bundle(path)
            versions.add(bundle.manifest.version)
            assert {each: bundle.read(each) for each in bundle.manifest.files} == FILES
    finally:
        writer.join()
    assert versions <= {"1.0.0", "1.0.1"}


def test_a_bundle_that_is_no_more_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(BundleError, match="nothing at"):
        open_bundle(tmp_path / "gone")


def test_a_link_to_a_bundle_opens(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a.verdiff")
    (tmp_path / "b").symlink_to(tmp_path / "a.verdiff")
    assert open_bundle(tmp_path / "b").manifest.model_id == "tiny-mr"


def test_a_graph_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"denoiser\.fp32, denoiser\.fp16"):
        make_bundle(tmp_path / "a").graph("prior", "int8-ov")
    with pytest.raises(BundleError, match=GOLDEN):
        make_bundle(tmp_path / "b", files={graph_name("prior"): b""}).golden()


@pytest.mark.parametrize("name", ["bundle.verdiff", "bundle"])
def test_a_change_after_opening_is_noticed_when_reading(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / name)
    path = bundle.path / graph_name("prior") if bundle.path.is_dir() else bundle.path
    size = path.stat().st_size
    path.write_bytes(bytes(size))
    with pytest.raises(BundleError, match="SHA-256"):
        bundle.read(graph_name("prior"))
    path.write_bytes(bytes(10))
    with pytest.raises(BundleError, match="early"):
        bundle.read(graph_name("prior"))


def _contents(bundle: Bundle) -> tuple[object, dict[str, bytes]]:
    return bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}


@functools.cache
def _good(zipped: bool) -> tuple[dict[str, bytes], tuple[object, dict[str, bytes]]]:
    """The small bundle's files as they lie on disk, by path, and its contents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("b.verdiff" if zipped else "b")
        contents = _contents(make_bundle(path))
        found = [path] if zipped else [each for each in path.rglob("*") if each.is_file()]
        return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found}, contents


@pytest.mark.parametrize("zipped", [True, False])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_wrong_byte_is_an_error_or_changes_nothing(zipped: bool, data: st.DataObject) -> None:
    files, contents = _good(zipped)
    name = data.draw(st.sampled_from(sorted(name for name, each in files.items() if each)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    damaged = bytearray(files[name])
    damaged[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        for each, good in files.items():
            path = Path(folder) / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(damaged if each == name else good)
        try:
            bundle = open_bundle(Path(folder) / ("b.verdiff" if zipped else "b"))
        except BundleError:
            return
        assert _contents(bundle) == contents


@pytest.mark.parametrize("zipped", [True, False])
def test_a_wrong_byte_in_a_graph_is_always_an_error(tmp_path: Path, zipped: bool) -> None:
    bundle = make_bundle(tmp_path / ("b.verdiff" if zipped else "b"))
    path = bundle.path if zipped else bundle.path / graph_name("prior")
    path.write_bytes(path.read_bytes().replace(b"prior graph", b"prior grapj", 1))
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(bundle.path)


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 10_000))
def test_a_zip_cut_anywhere_is_an_error(cut: int) -> None:
    good = _good(True)[0]["b.verdiff"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.verdiff"
        path.write_bytes(good[: cut % len(good)])
        with pytest.raises(BundleError):
            open_bundle(path)
