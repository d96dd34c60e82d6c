"""The Slicer module's call of ``verdiff``: its words, its environment, progress, cancelling and errors; no Slicer."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
import time
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "slicer" / "VerdiffSegmenter"))

from VerdiffSegmenterLib.call import (  # noqa: E402
    WITH_A_MASK,
    Call,
    CallError,
    Settings,
    clean_environment,
    command,
    find_program,
)

from verdiff.cli import app  # noqa: E402
from verdiff.errors import EMPTY_MASK, IMPLAUSIBLE, SUCCESS  # noqa: E402


def program(folder: Path, body: str) -> str:
    """A stand-in for ``verdiff`` that does what ``body`` says."""
    path = folder / "verdiff"
    path.write_text(f"#!{sys.executable}\nimport json, sys, time\n{textwrap.dedent(body)}", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def ended(call: Call) -> Call:
    deadline = time.monotonic() + 60
    while call.running and time.monotonic() < deadline:
        time.sleep(0.01)
    return call


def test_every_word_of_the_command_is_an_option_of_infer() -> None:
    import typer.main

    settings = Settings("cuda:1", 3000, "a.verdiff", vertebrae=True, lowest="L4", force=True)
    words = command("verdiff", Path("scan.nrrd"), Path("out.seg.nrrd"), settings)
    group = typer.main.get_command(app)
    infer = group.commands["infer"]  # type: ignore[attr-defined]
    known = {option for parameter in infer.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known
    assert words[words.index("--device") + 1] == "cuda:1" and words[words.index("--budget-ms") + 1] == "3000"
    assert words[words.index("--lowest") + 1] == "L4"


def test_a_mask_is_there_with_the_codes_that_verdiff_documents() -> None:
    assert set(WITH_A_MASK) == {SUCCESS, EMPTY_MASK, IMPLAUSIBLE}


def test_what_slicers_launcher_added_is_not_handed_on() -> None:
    before = {"PATH": "/bin", "PYTHONHOME": "/slicer", "PYTHONPATH": "/slicer/lib", "LD_LIBRARY_PATH": "/slicer/lib"}
    assert clean_environment(before) == {"PATH": "/bin"}


def test_the_program_is_found_by_name_by_folder_and_on_the_path(tmp_path: Path) -> None:
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    path = program(bin_folder, "")
    assert find_program(path) == find_program(str(tmp_path / "venv")) == path
    assert find_program("", {"PATH": str(bin_folder)}) == path
    with pytest.raises(CallError, match=r"no program verdiff on the PATH\nexpected: .*\nto do: "):
        find_program("", {"PATH": str(tmp_path)})
    with pytest.raises(CallError, match="no program verdiff at "):
        find_program(str(tmp_path / "nowhere"))


def test_the_program_is_found_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    bin_folder = tmp_path / "verdiff" / "bin"
    bin_folder.mkdir(parents=True)
    path = program(bin_folder, "")
    assert find_program("~/verdiff") == find_program("~/verdiff/bin/verdiff") == path


def test_progress_is_read_while_it_runs_and_the_report_at_its_end(tmp_path: Path) -> None:
    words = program(
        tmp_path,
        """
        print(json.dumps({"doing": "segmenting", "share": 0.25}), file=sys.stderr, flush=True)
        print("a remark {", file=sys.stderr, flush=True)
        sys.stdin.read()
        print(json.dumps({"outcome": "complete", "padding": "x" * 300_000}))
        """,
    )
    call = ended(Call([words], os.environ))
    assert (call.progress.doing, call.progress.share, call.progress.said) == ("segmenting", 0.25, ["a remark {"])
    report = call.report()
    assert report is not None and report["outcome"] == "complete"


def test_an_error_of_verdiff_is_told_in_its_own_words(tmp_path: Path) -> None:
    words = program(tmp_path, "print('found\\nexpected: x\\nto do: y', file=sys.stderr); sys.exit(4)")
    with pytest.raises(CallError, match="found\nexpected: x\nto do: y"):
        ended(Call([words], os.environ)).report()


def test_a_cancelled_call_ends_at_once_and_reports_nothing(tmp_path: Path) -> None:
    call = Call([program(tmp_path, "time.sleep(600)")], os.environ)
    assert call.running
    call.cancel()
    assert not ended(call).running and call.report() is None


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "verdiff").write_text("no program", "utf-8")
    with pytest.raises(CallError, match="cannot be started"):
        Call([str(tmp_path / "verdiff")], os.environ)


class _Job:
    """A stand-in for a job that ends when it is told to."""

    made: list[_Job]

    def __init__(self, *_: Any) -> None:
        self.running, self.done = True, ""
        self.progress = SimpleNamespace(share=None, doing="segmenting")
        _Job.made.append(self)

    def finish(self, _: Any) -> None:
        self.done = "finished"

    def cancel(self) -> None:
        self.done = "cancelled"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module's file, with nothing of Slicer or Qt behind it."""
    base = ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Test", "Widget"):
        setattr(base, f"ScriptedLoadableModule{name}", type(name, (), {"__init__": lambda *_: None}))
    job = ModuleType("VerdiffSegmenterLib.job")
    _Job.made = []
    vars(job).update(Job=_Job, lines_of=list)
    for name, stub in {"ctk": MagicMock(), "qt": MagicMock(), "slicer": MagicMock(), base.__name__: base}.items():
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setitem(sys.modules, job.__name__, job)
    spec = util.spec_from_file_location("panel", ROOT / "slicer" / "VerdiffSegmenter" / "VerdiffSegmenter.py")
    assert spec is not None and spec.loader is not None
    made = util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "find_program", lambda *_: "verdiff")
    return made


def test_a_press_of_cancel_after_the_end_takes_the_result(module: Any) -> None:
    widget = module.VerdiffSegmenterWidget()
    for name in ("timer", "bar", "button", "says", "output", "scan", "program"):
        setattr(widget, name, MagicMock())
    widget._settings = Settings
    widget.logic = module.VerdiffSegmenterLogic()
    widget.on_button()
    (job,) = _Job.made
    job.running = False
    widget.on_button()
    assert _Job.made == [job] and job.done == "finished" and widget.button.text == "Segment"
    widget.on_button()
    widget.on_button()
    assert [each.done for each in _Job.made] == ["finished", "cancelled"]


def test_a_script_that_starts_anew_takes_the_files_of_the_old_call_away(module: Any) -> None:
    logic = module.VerdiffSegmenterLogic()
    logic.start(None, Settings())
    logic.start(None, Settings())
    assert [each.done for each in _Job.made] == ["cancelled", ""]


def test_the_real_program_tells_its_progress_in_the_lines_that_are_read(tmp_path: Path) -> None:
    """An error is enough to see: reading is told before it fails."""
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD")
    words = command("verdiff", tmp_path / "scan.nrrd", tmp_path / "a.seg.nrrd", Settings())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = ended(Call([sys.executable, "-m", *words], environment))
    assert call.progress.doing == "reading scan.nrrd"
    with pytest.raises(CallError, match=r"scan\.nrrd"):
        call.report()
    assert json.dumps(call.progress.said)
