"""The reference of the Python interface and of a configuration's keys is what the code says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib import import_module

import pytest

from tests.test_readme import PAGE_NAMES, ROOT
from tools import configuration
from tools.reference import FOLDER, ROOMS, Reference, public_names
from verdiff.settings import about
from verdiff.systems import SYSTEMS
from verdiff.train.config import RunConfig
from verdiff.train.network_classes import settings_class

REFERENCE = Reference()
TABLES = [each.default_factory for each in dataclasses.fields(RunConfig) if isinstance(each.default_factory, type)]
STALE = "run 'make reference'"


@pytest.mark.parametrize("name", REFERENCE.pages())
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == REFERENCE.pages()[name], STALE


def test_no_page_is_left_of_a_room_that_is_gone() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == set(REFERENCE.pages()), STALE


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_class_and_function_says_what_it_is(room: str) -> None:
    values = {name: getattr(REFERENCE.modules[room], name) for name in public_names(REFERENCE.modules[room])}
    silent = [name for name, value in values.items() if callable(value) and not inspect.getdoc(value)]
    assert silent == []


def test_the_configuration_s_page_is_what_the_code_says() -> None:
    assert configuration.PAGE.read_text("utf-8") == configuration.page(), STALE


@pytest.mark.parametrize("table", [*TABLES, *(settings_class(name) for name in SYSTEMS)])
def test_every_key_says_what_it_is(table: type) -> None:
    assert [each.name for each in dataclasses.fields(table) if not about(each).help] == []


@pytest.mark.parametrize("page", [name for name in PAGE_NAMES if not name.startswith("CHANGELOG")])
def test_a_name_of_the_package_on_a_page_is_there(page: str) -> None:
    named = set(re.findall(r"`(verdiff(?:\.\w+)+)", (ROOT / page).read_text("utf-8")))
    assert {name for name in named if not _is_there(name)} == set()


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one; names of bundles end in their suffix."""
    if name.endswith((".verdiff", ".hpp", ".mjs", ".sig")):
        return True
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False
