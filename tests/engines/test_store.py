"""The cache: engines appear whole or not at all, are read only when everything about them is right, and are private."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bundle.factory import make_bundle
from tests.engines.make import HERE, PLAN, REBUILD, make_key, make_sidecar, put
from verdiff.engines import (
    cache_folder,
    cache_path,
    engine_path,
    find_engines,
    prepare_folder,
    read_engine,
    read_sidecar,
    write_engine,
)
from verdiff.errors import BackendError, OutputError

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "engines")


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_engine_is_read_as_it_was_written(folder: Path) -> None:
    path = put(folder)
    assert path == engine_path(make_key(), folder)
    assert read_engine(path, HERE) == PLAN
    assert read_sidecar(path) == make_sidecar()
    assert visible(folder) == [make_key().stem + ".json", make_key().stem + ".plan"]


@posix
def test_nobody_else_can_read_or_write_it(folder: Path) -> None:
    path = put(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in (path, path.with_suffix(".json"))} == {0o600}


def test_engines_are_found_newest_first_and_unusable_ones_apart(folder: Path) -> None:
    older, newer = make_key(sm="86"), make_key(sm="89")
    put(folder, older, built_at="2026-01-02T00:00:00+00:00")
    put(folder, newer, built_at="2026-03-01T00:00:00+00:00")
    broken = put(folder, make_key(sm="75"))
    broken.write_bytes(PLAN[:-1])
    orphan = put(folder, make_key(sm="80"))
    orphan.with_suffix(".json").unlink()
    problems: list[BackendError] = []
    assert [each.key for each in find_engines(folder, problems=problems)] == [newer, older]
    assert len(problems) == 1
    assert broken.name in problems[0].found


def test_looking_for_engines_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / "cache"))
    assert find_engines() == []
    assert not cache_path().exists()
    assert cache_folder() == tmp_path / "cache" / "engines"
    assert cache_folder().is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux keeps caches")
def test_the_user_s_cache_is_where_the_system_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERDIFF_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path() == tmp_path / ".cache" / "verdiff" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path() == tmp_path / "xdg" / "verdiff" / "engines"


def refused(path: Path, told: str, remedy: str = REBUILD) -> None:
    with pytest.raises(BackendError) as caught:
        read_engine(path, HERE)
    assert told in caught.value.found
    assert remedy in caught.value.remedy


def test_a_truncated_plan_is_refused_before_anything_reads_it(folder: Path) -> None:
    path = put(folder)
    path.write_bytes(PLAN[: len(PLAN) // 2])
    refused(path, f"has {len(PLAN) // 2:,} bytes")


def test_a_changed_plan_of_the_right_size_is_refused(folder: Path) -> None:
    path = put(folder)
    path.write_bytes(PLAN[:-1] + b"!")
    refused(path, "has SHA-256")


def test_a_plan_without_its_sidecar_is_no_engine(folder: Path) -> None:
    path = put(folder)
    path.with_suffix(".json").unlink()
    refused(path, "No such file", "verdiff build")


def test_the_sidecar_of_another_engine_is_refused(folder: Path) -> None:
    path, other = put(folder), put(folder, make_key(sm="89"))
    path.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
    refused(path, f"it describes {make_key(sm='89').stem}", "delete the plan and its sidecar")


def test_a_sidecar_without_end_is_refused(folder: Path) -> None:
    path = put(folder)
    path.with_suffix(".json").write_bytes(b" " * ((1 << 20) + 1))
    refused(path, "more than 1,048,576 bytes", "verdiff build")


def test_an_engine_for_another_gpu_is_refused_before_its_plan_is_read(folder: Path) -> None:
    path = put(folder, make_key(sm="86", gpu_name="NVIDIA A10"))
    path.write_bytes(b"x" * len(PLAN))
    refused(path, "SM 86")


def test_an_engine_in_a_bundle_is_never_read(tmp_path: Path) -> None:
    bundle = tmp_path / "model"
    make_bundle(bundle)
    engines = bundle / "engines"
    engines.mkdir(mode=0o700)
    path = put(engines)
    refused(path, "inside a model bundle", "verdiff build")


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    path = put(folder)
    folder.chmod(mode)
    refused(path, f"mode {mode:04o}", f"chmod 700 {folder}")
    with pytest.raises(BackendError):
        prepare_folder(folder)


@posix
def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder)
    # Seen by a user who is neither its owner nor told that root owns it.
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    real = Path.stat
    foreign = os.stat_result((*real(folder)[:4], 54321, *real(folder)[5:]))
    monkeypatch.setattr(Path, "stat", lambda self, **kw: foreign if self == folder else real(self, **kw))
    refused(path, "belongs to user 54321", "VERDIFF_CACHE")


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "engines"
    place.write_text("not a folder", "utf-8")
    with pytest.raises((OutputError, BackendError), match="engines"):
        prepare_folder(place)


def test_a_full_disk_leaves_nothing_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        put(folder)
    assert visible(folder) == []


def test_a_sidecar_that_is_not_the_plan_s_is_a_mistake_of_the_caller(folder: Path) -> None:
    with pytest.raises(ValueError, match="another engine"):
        write_engine(make_key(), PLAN, make_sidecar(plan=b"other"), folder)
    with pytest.raises(ValueError, match="another engine"):
        write_engine(make_key(sm="89"), PLAN, make_sidecar(), folder)


def killed_at(call: int, write: Callable[[], object]) -> bool:
    """Run ``write`` in a process that dies at its n-th call of the system; whether it died."""
    child = os.fork()
    if child == 0:
        left = [call]

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def run(*arguments: object, **named: object) -> object:
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return real(*arguments, **named)

            return run

        for name in ("open", "fsync", "replace", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        write()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@posix
@pytest.mark.parametrize("replacing", [False, True], ids=["a new engine", "an engine built again"])
def test_killed_at_any_moment_there_is_a_whole_engine_or_none(folder: Path, replacing: bool) -> None:
    newer = PLAN[::-1]
    deaths = 0
    while True:
        shutil.rmtree(folder)
        prepare_folder(folder)
        if replacing:
            put(folder)
        died = killed_at(deaths, lambda: put(folder, plan=newer))
        for each in find_engines(folder):
            assert read_engine(engine_path(each.key, folder), HERE) in (PLAN, newer)
        put(folder, plan=newer)
        assert read_engine(engine_path(make_key(), folder), HERE) == newer
        assert visible(folder) == [make_key().stem + ".json", make_key().stem + ".plan"], "the next build cleans up"
        if not died:
            break
        deaths += 1
    assert deaths >= 6


def test_another_version_s_engine_does_not_take_the_place_of_this_one(folder: Path) -> None:
    put(folder)
    put(folder, make_key(trt_version="11.4.0.106"))
    assert len(find_engines(folder)) == 2
    later = replace(HERE, trt_version="11.4.0.106")
    assert read_engine(engine_path(make_key(trt_version="11.4.0.106"), folder), later) == PLAN


def test_a_damaged_plan_of_a_named_cache_is_told_to_a_user_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VERDIFF_CACHE", raising=False)
    monkeypatch.setattr("verdiff.engines.store._user_cache", homeless)
    path = put(prepare_folder(tmp_path / "engines"))
    path.write_bytes(PLAN[:10])
    problems: list[BackendError] = []
    assert find_engines(path.parent, problems=problems) == []
    assert [problem.found for problem in problems] == [f"{path.name} has 10 bytes"]
    assert problems[0].remedy.endswith(f"--cache {tmp_path}")


@pytest.mark.parametrize("fault", ["gone", "cut short", "changed"])
def test_what_mends_a_plan_names_its_engine_and_a_cache_that_is_not_the_user_s(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare_folder(tmp_path / "my cache" / "engines")
    path = put(folder)
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(PLAN[:10] if fault == "cut short" else PLAN[::-1])
    command = f"build it again: {REBUILD}"
    for mine in (False, True):
        if mine:
            monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / "my cache"))
        with pytest.raises(BackendError) as caught:
            read_engine(path, HERE)
        named = "" if mine else f" --cache '{tmp_path / 'my cache'}'"
        assert caught.value.remedy.endswith(command + named)
