"""`verdiff build`: what it prints, its list of engines, its exit codes, and quiet progress."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import Result

from tests.command_line import verdiff
from verdiff.engines.library import Library
from verdiff.errors import BackendError
from verdiff.options import BuildOptions
from verdiff.settings import check_options


def build(folder: Path, *more: object) -> Result:
    return verdiff("build", "--role", "prior", "--size", "64x48", "--batch", 1, "--cache", folder, *more)


def test_it_builds_lists_and_finds_what_it_built(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert "no engines in the cache" in verdiff("build", "--list", "--cache", folder).stdout
    first = build(folder)
    assert first.exit_code == 0, first.output
    (plan,) = folder.glob("engines/*.plan")
    assert str(plan) in first.stdout
    assert "bytes of weights" in first.stdout
    again = build(folder)
    assert "there already" in again.stdout and "bytes of weights" not in again.stdout
    listed = verdiff("build", "--list", "--cache", folder).stdout
    assert plan.name in listed and "prior fp32" in listed and "64x48" in listed
    plan.write_bytes(b"short")
    listed = verdiff("build", "--list", "--cache", folder).stdout
    assert f"unusable: {plan.name} has 5 bytes" in listed
    assert "to do: it was cut short or changed; build it again: verdiff build spine-mr --precision fp32" in listed


def test_each_engine_is_followed_by_its_own_proofs(library: Library, tmp_path: Path) -> None:
    lines = build(tmp_path / "cache", "--role", "step").stdout.splitlines()
    titles = [line.split()[1] for line in lines if not line.startswith("  ")]
    assert titles == ["prior", "prior", "step", "step"]
    of_prior = lines[2 : lines.index(next(line for line in lines if " step " in line))]
    assert len(of_prior) > 3, "building, built, its proofs, the next one"
    assert " layers in the graph's types" in "".join(of_prior)


@pytest.mark.parametrize(
    "words", [(), ("--sm", "89"), ("--sm", "89", "--sm", "86", "--workspace-mb", "64"), ("--size", "96x96")]
)
def test_the_command_in_a_message_builds_the_same_engine_in_the_same_place(
    library: Library, tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "a cache"
    assert build(folder, *words).exit_code == 0
    (plan,) = folder.glob("engines/*.plan")
    whole = plan.read_bytes()
    plan.write_bytes(whole[:100])
    listed = verdiff("build", "--list", "--cache", folder).stdout
    command = shlex.split(listed.split("build it again: ")[1])
    assert command[0] == "verdiff"
    assert verdiff(*command[1:]).exit_code == 0
    assert list(folder.glob("engines/*.plan")) == [plan], "one engine, and no other beside it"
    assert plan.stat().st_size > 100


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--precision", "fp16"), "no prior graph in fp16"),
        (("--device", "cuda:99"), "cuda"),
    ],
)
def test_what_cannot_be_built_is_told_in_three_lines(library: Library, tmp_path: Path, words: tuple, told: str) -> None:
    result = verdiff("build", "--cache", tmp_path / "engines", *words)
    assert result.exit_code == 6
    found, expected, remedy = result.stderr.strip().split("\n")
    assert found.startswith("found: ") and told in found + expected
    assert expected.startswith("expected: ") and remedy.startswith("to do: ")


def test_sizes_are_rows_and_columns() -> None:
    assert BuildOptions(sizes=("320x256", (64, 48))).pixels == ((320, 256), (64, 48))
    for wrong in ("320", "x", "320x", "320x256x1", "-320x256", "320X256", "1000000x1"):
        with pytest.raises(BackendError):
            check_options(BuildOptions(sizes=(wrong,)), BackendError)
