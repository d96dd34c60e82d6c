"""The pages that speak of the servers' limits give each by its name, with the default that the record has."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from verdiff.limits import Completion, IgtlLimits, Limits, NodeLimits
from verdiff.settings import option_name

PAGES: dict[str, tuple[type[Any], ...]] = {
    "serving.md": (Limits, IgtlLimits),
    "dicom-node.md": (NodeLimits, Completion),
}
STATED = re.compile(r"`([\w-]+)` \((\d[\d,]*(?:\.\d+)?)(?: (s|MiB))?\)")
UNITS = {"s": "s", "mb": "MiB"}


def stated(text: str) -> Iterator[tuple[str, float, str]]:
    """Name, value and unit of every limit in a text."""
    for name, value, unit in STATED.findall(text):
        yield name, float(value.replace(",", "")), unit


def unlike_the_record(text: str, records: tuple[type[Any], ...]) -> list[str]:
    """The limits in a text that no record has so."""
    defaults = {
        (name, float(field.default), UNITS.get(field.name.rpartition("_")[2], ""))
        for record in records
        for field in dataclasses.fields(record)
        if field.default is not None
        for name in (field.name, option_name(field))
    }
    return [f"{name} ({value:g} {unit})" for name, value, unit in stated(text) if (name, value, unit) not in defaults]


@pytest.mark.parametrize("page", PAGES)
def test_limits_on_a_page_are_those_of_the_records(root: Path, page: str) -> None:
    text = (root / "docs" / page).read_text("utf-8")
    assert len(list(stated(text))) >= 8
    assert unlike_the_record(text, PAGES[page]) == []


def test_another_value_unit_or_name_is_found() -> None:
    text = "`job_s` (600 s), `job_s` (60 s), `job_s` (600 MiB), `jobs` (3), `waiting` (1,6)"
    assert unlike_the_record(text, (Limits,)) == ["job_s (60 s)", "job_s (600 MiB)", "jobs (3 )"]
