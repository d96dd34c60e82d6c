"""Every command of README and docs is run as printed, or as nearly as a machine without a GPU and without hours can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import typer.main

from tests.pages.printed import FENCE, HOW, ROOT, STUDIES, TUTORIAL, How, how, printed_commands, shell_lines, words
from tests.pages.running import in_folder, program_of
from tests.pages.workshop import fresh, make_workshop
from verdiff.engines import find_package
from verdiff.extras import WHEEL

COMMANDS = printed_commands()
OURS = [c for c, pages in COMMANDS.items() if c.startswith(("verdiff ", STUDIES)) and pages != [TUTORIAL]]
RUN = [command for command in OURS if not how(command).tested_by]
PARSED = [command for command in OURS if how(command).tested_by]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def trained(template: Path) -> Path:
    """The workshop with a cache and a run in it, made by the printed commands themselves."""
    for command in (
        next(c for c in OURS if c.startswith("verdiff train spine-mr") and "--prepare" in c),
        next(c for c in OURS if c.startswith("verdiff train spine-mr") and "--prepare" not in c),
    ):
        with pytest.MonkeyPatch.context() as patch:
            code, output = in_folder(template, command, how(command), patch)
        assert code == 0, output
    return template


@pytest.mark.parametrize("command", RUN)
def test_it_runs(command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.startswith("verdiff build") and "--list" not in command and find_package("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed")
    folder = fresh(trained, tmp_path / "here")
    asked = words(command)
    named = [after for word, after in pairwise(asked) if word in ("-o", "--output") and "." in after]
    for name in (*how(command).without, *named):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    code, output = in_folder(folder, command, how(command), monkeypatch)
    assert code in how(command).codes, output


@pytest.mark.parametrize("command", PARSED)
def test_it_is_parsed_and_the_rest_is_tested_elsewhere(command: str) -> None:
    reason = how(command)
    assert reason.why and (ROOT / reason.tested_by).is_file()
    program, (name, *rest) = program_of(command)
    group = typer.main.get_command(program)
    group.commands[name].make_context(name, rest)  # type: ignore[attr-defined]


def test_no_entry_is_left_of_a_command_that_is_printed_no_more() -> None:
    used = {beginning for beginning, entry in HOW.items() for command in OURS if how(command) is entry}
    assert set(HOW) - used == set()


def test_what_is_not_run_as_printed_says_why() -> None:
    assert [beginning for beginning, entry in HOW.items() if (entry.add or entry.tested_by) and not entry.why] == []


def test_a_new_command_is_run_as_printed_and_one_that_cannot_be_is_noticed(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new,) = shell_lines("Try it:\n\n```sh\nverdiff infer nowhere.nii.gz   # a scan\n```\n")
    assert how(new) == How()
    code, output = in_folder(fresh(template, tmp_path / "here"), new, how(new), monkeypatch)
    assert code not in how(new).codes and "nowhere.nii.gz" in output


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_knows_its_target(command: str) -> None:
    done = subprocess.run([*words(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_that_is_installed_is_the_one_that_make_builds() -> None:
    installed = [
        word for command in COMMANDS if command.startswith("pip ") for word in words(command) if ".whl" in word
    ]
    assert installed and {word.split("[")[0] for word in installed} == {f"dist/{WHEEL}"}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("pip ")])
def test_pip_is_given_a_place_that_exists_and_extras_that_do(command: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    place, named = re.fullmatch(r"([^\[]+)\[([\w,-]+)\]", words(command)[-1]).groups()  # type: ignore[union-attr]
    assert place in (".", f"dist/{WHEEL}"), "verdiff is on no package index"
    assert set(named.split(",")) <= set(extras)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ") and c not in OURS])
def test_the_python_program_runs(command: str, template: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # The recorded run of the fuzzer takes ten minutes; the same program damages fewer files here.
    arguments = words(command.replace("tests.imaging.fuzzing 40000", "tests.imaging.fuzzing 40"))[1:]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=fresh(template, tmp_path / "here"),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/anatomy.md", "docs/serving.md"])
def test_the_python_of_a_page_runs(
    page: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fresh(template, tmp_path / "here")
    shutil.copy(folder / "expert.nii.gz", folder / "scan_seg.nii.gz")
    monkeypatch.chdir(folder)
    sources = [body for language, body in FENCE.findall((ROOT / page).read_text("utf-8")) if language == "python"]
    assert sources
    for source in sources:
        exec(compile(source, page, "exec"), {})
    assert capsys.readouterr().out
