"""A printed command, run in a folder that has what it names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from studies.__main__ import app as studies
from tests.pages.printed import STUDIES, How, words
from verdiff.bundle import open_bundle, resolve_model
from verdiff.cli import app


def program_of(command: str) -> tuple[typer.Typer, list[str]]:
    """The program that a command runs, and the words it is given."""
    if command.startswith(STUDIES):
        return studies, words(command.removeprefix(STUDIES))
    return app, words(command)[1:]


def in_folder(folder: Path, command: str, how: How, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run a command in a folder, with the data sets that ``$VERDIFF_DATA`` names there; its exit code and output."""
    patch.chdir(folder)
    patch.setenv("VERDIFF_DATA", str(folder / "data"))
    patch.setenv("MANIFEST_SHA256", open_bundle(resolve_model()).manifest_sha256)
    patch.setenv("VERDIFF_CACHE", str(folder / "cache-of-engines"))
    program, asked = program_of(f"{command} {how.add}")
    result = CliRunner().invoke(program, [os.path.expandvars(word) for word in asked])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
