"""`verdiff infer` of several scans, and what it left."""

from __future__ import annotations

import csv
from pathlib import Path

from click.testing import Result

from tests.command_line import verdiff


def infer(*words: object, bundle: Path) -> Result:
    """The command, with the prior alone."""
    return verdiff("infer", *words, "--model", bundle, "--threads", 1, "--prior-only")


def summary(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of the summary, by case."""
    with (folder / "summary.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def times(folder: Path) -> dict[str, int]:
    """When each file but the summary was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "summary.csv"}
