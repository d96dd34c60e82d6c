"""The files of one call appear together, whatever ends it; what a kill leaves is put in order by the next call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from verdiff.errors import OutputError
from verdiff.files import Staging, made_by_verdiff, plan_files
from verdiff.files.locks import lock_folder, release

NAMES = ("a.md", "sub/b.md", "a.json")


def write(folder: Path, text: str, *, number: int = 3) -> None:
    with plan_files({name: folder / name for name in NAMES}, folder=folder).staged() as staged:
        for name in NAMES[:number]:
            staged[folder / name].write_text(f'{{"{text}": 1}}' if name.endswith("json") else text, "utf-8")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def said(folder: Path) -> set[str]:
    """Which call the files are of."""
    return {word for text in contents(folder).values() for word in ("old", "new") if word in text}


def test_all_files_appear_at_the_end_of_the_block_with_their_marks(tmp_path: Path) -> None:
    with plan_files({name: tmp_path / name for name in NAMES}, folder=tmp_path).staged() as staged:
        for name in NAMES:
            staged[tmp_path / name].write_text("{}", "utf-8")
            assert not (tmp_path / name).exists()
    assert set(contents(tmp_path)) == set(NAMES)
    assert all(made_by_verdiff(tmp_path / name) for name in NAMES)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ValueError, OSError])
def test_whatever_ends_the_block_early_changes_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    write(tmp_path, "old")
    before = contents(tmp_path)
    with (
        pytest.raises(OutputError if stop is OSError else stop),
        plan_files({name: tmp_path / name for name in NAMES}, folder=tmp_path).staged() as staged,
    ):
        staged[tmp_path / NAMES[0]].write_text("new", "utf-8")
        raise stop
    assert contents(tmp_path) == before


# A file alone is renamed after its folder, and nothing is set aside before.
@pytest.mark.parametrize(("number", "failing"), [*((3, each) for each in range(1, 7)), (1, 1), (1, 2)])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_renaming_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, failing: int, error: BaseException
) -> None:
    write(tmp_path, "old")
    before, replace, calls = contents(tmp_path), os.replace, 0

    def fail(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise error
        replace(source, target)

    def no_links(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        # A disk without second names for a file has the most renamings.
        patch.setattr(os, "link", no_links)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            write(tmp_path, "new", number=number)
    assert calls >= failing
    assert contents(tmp_path) == before


def test_an_error_names_the_file_as_the_user_knows_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as refusal, Staging(tmp_path) as staged:
        staged[tmp_path / "a.md"].write_text("new", "utf-8")
        raise OSError(28, "No space left on device", str(staged[tmp_path / "a.md"]))
    assert refusal.value.found == f"{tmp_path / 'a.md'} cannot be written: No space left on device"
    with pytest.raises(OutputError) as refusal, Staging(tmp_path) as staged:
        raise OutputError(f"{staged[tmp_path / 'a.md']} cannot be written (full)", "room", "free some")
    assert refusal.value.found == f"{tmp_path / 'a.md'} cannot be written (full)"


def test_a_folder_that_was_made_goes_again_if_nothing_came_into_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), Staging(tmp_path / "new" / "deep") as staged:
        staged[tmp_path / "new" / "deep" / "a.md"].write_text("new", "utf-8")
        raise ValueError("stop")
    assert not list(tmp_path.iterdir())


def test_folders_below_are_made_however_deep_and_go_again_if_the_files_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b" / "c" / "x.md"

    def staged() -> None:
        with Staging(tmp_path) as staged:
            staged[deep].write_text("deep", "utf-8")
            staged[tmp_path / "y.md"].write_text("flat", "utf-8")

    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == "y.md":
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OutputError):
            staged()
    assert not list(tmp_path.iterdir())
    staged()
    assert contents(tmp_path) == {"a/b/c/x.md": "deep", "y.md": "flat"}


def test_a_file_of_an_earlier_call_can_go_when_the_new_ones_appear(tmp_path: Path) -> None:
    write(tmp_path, "old")
    with Staging(tmp_path) as staged:
        staged[tmp_path / "c.md"].write_text("new", "utf-8")
        staged.remove(tmp_path / "a.md")
        assert (tmp_path / "a.md").exists()
    assert set(contents(tmp_path)) == {"sub/b.md", "a.json", "c.md"}


def killed_at(folder: Path, renaming: int, number: int = signal.SIGKILL) -> int:
    """Have another process write "new" and send itself a signal right after so many renamings."""
    script = (
        "import os, signal, sys\n"
        # Whoever runs the tests in the background has them ignore these.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from pathlib import Path\n"
        "from tests.files.test_staging import write\n"
        "replace, calls = os.replace, 0\n"
        "def killed(source, target):\n"
        "    global calls\n"
        "    replace(source, target)\n"
        "    calls += 1\n"
        "    if calls == int(sys.argv[2]):\n"
        "        os.kill(os.getpid(), int(sys.argv[3]))\n"
        "os.replace = killed\n"
        "write(Path(sys.argv[1]), 'new')\n"
    )
    return subprocess.run([sys.executable, "-c", script, str(folder), str(renaming), str(int(number))]).returncode


@pytest.mark.parametrize("renaming", [1, 2, 3, 4, 5])
def test_what_a_kill_between_two_renamings_leaves_has_no_last_file_and_is_finished_by_the_next_call(
    tmp_path: Path, renaming: int
) -> None:
    write(tmp_path, "old")
    assert killed_at(tmp_path, renaming) == -signal.SIGKILL
    seen = contents(tmp_path)
    if "a.json" in seen:
        visible = {name: text for name, text in seen.items() if not name.startswith(".")}
        assert len({"new" in text for text in visible.values()}) == 1
    plan_files({"another": tmp_path / "z.json"})
    assert set(contents(tmp_path)) == set(NAMES)
    assert said(tmp_path) == {"new"}


def test_a_file_that_a_user_puts_in_a_place_after_a_kill_is_not_replaced_by_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, "old")
    assert killed_at(tmp_path, 2) == -signal.SIGKILL
    (tmp_path / "a.md").write_text("an expert's", "utf-8")
    plan_files({"another": tmp_path / "z.json"})
    found = contents(tmp_path)
    assert found["a.md"] == "an expert's"
    assert "old" in found["a.json"] and "old" in found["sub/b.md"] and len(found) == 3


def test_what_a_kill_while_writing_leaves_is_removed_by_the_next_call(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from verdiff.files import Staging\n"
        "with Staging(Path(sys.argv[1])) as staged:\n"
        "    staged[Path(sys.argv[1]) / 'a.md'].write_text('half of the n')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    write(tmp_path, "old")
    before = contents(tmp_path)
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -9
    assert len(contents(tmp_path)) == 4
    plan_files({"another": tmp_path / "z.json"})
    assert contents(tmp_path) == before


def test_only_what_verdiff_left_is_removed(tmp_path: Path) -> None:
    for name in (
        ".verdiff",
        ".verdiff-notes",
        ".verdiff-0123456789abcdef.staged.txt",
        "x.verdiff-0123456789abcdef.staged",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / ".verdiff-0123456789abcdef.staged").write_text("a file of a user's", "utf-8")
    (tmp_path / ".verdiff-1123456789abcdef.staged").symlink_to(tmp_path / ".verdiff")
    plan_files({"another": tmp_path / "z.json"})
    assert len(list(tmp_path.iterdir())) == 6


def test_what_a_running_call_works_on_is_left_alone(tmp_path: Path) -> None:
    with Staging(tmp_path) as staged:
        staged[tmp_path / "a.md"].write_text("mine", "utf-8")
        with Staging(tmp_path) as other:
            other[tmp_path / "b.md"].write_text("other", "utf-8")
    assert set(contents(tmp_path)) == {"a.md", "b.md"}


def test_the_lock_of_a_folder_ends_with_its_owner(tmp_path: Path) -> None:
    held = lock_folder(tmp_path, wait=False)
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path, wait=False)
    release(held)
    release(lock_folder(tmp_path, wait=False))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("renaming", [1, 3, 5])
def test_a_signal_between_two_renamings_waits_until_all_are_done(tmp_path: Path, renaming: int, number: int) -> None:
    write(tmp_path, "old")
    assert killed_at(tmp_path, renaming, number) != 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.md", "sub", "a.json"}
    assert said(tmp_path) == {"new"} and len(contents(tmp_path)) == 3


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_file_that_another_call_replaces_while_it_is_looked_at_is_nobody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    write(tmp_path, "old")
    last = tmp_path / NAMES[-1]
    looked: list[Path] = []

    def taken_away(path: Path) -> bool:
        looked.append(path)
        if path != last or looked.count(last) > 1:
            return made_by_verdiff(path)
        # Another call has moved the old file aside, and not put the new one in its place yet.
        text = last.read_bytes()
        last.unlink()
        found = made_by_verdiff(path)
        if comes_back:
            (tmp_path / "fresh").write_bytes(text)
            os.utime(tmp_path / "fresh", ns=(1, 1))
            os.replace(tmp_path / "fresh", last)
        return found

    monkeypatch.setattr("verdiff.files.plan.made_by_verdiff", taken_away)
    write(tmp_path, "new")
    assert said(tmp_path) == {"new"} and last in looked


def test_of_two_calls_at_the_same_time_all_files_are_one_s(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.files.test_staging import write\n"
        "for _ in range(40):\n"
        "    write(Path(sys.argv[1]), sys.argv[2])\n"
    )
    calls = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), text], stderr=subprocess.PIPE, text=True)
        for text in ("old", "new")
    ]
    errors = [call.communicate()[1] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], errors
    assert len(said(tmp_path)) == 1 and set(contents(tmp_path)) == set(NAMES)
