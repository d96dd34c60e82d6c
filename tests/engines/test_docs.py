"""docs/engines.md says what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from tests.bundle.factory import make_manifest
from tests.engines.make import make_sidecar
from verdiff.engines import ENGINE_PRECISIONS, ENGINE_ROLES, FLAGS, EngineKey, buckets
from verdiff.engines.shapes import FIELDS_MM, PIXELS_A_CALL

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")


def first_cells(head: str) -> set[str]:
    table = PAGE.split(f"| {head} | what |\n")[1].split("\n\n")[0]
    return {name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_tables_of_keys_are_the_sidecar_s() -> None:
    assert first_cells("key") == set(json.loads(make_sidecar().to_json()))
    assert first_cells("field of the key") == {field.name for field in fields(EngineKey)}


def test_the_words_of_the_options_are_the_code_s() -> None:
    for word in (*ENGINE_ROLES, *ENGINE_PRECISIONS, *FLAGS):
        assert f"`{word}`" in PAGE, word


def test_the_sizes_are_the_code_s() -> None:
    fields_of_view = [f"{rows} x {cols}" for rows, cols in FIELDS_MM]
    sizes = [bucket.size.replace("x", " x ") for bucket in buckets(make_manifest(spacing_mm=0.94))]
    text = " ".join(PAGE.split())
    for three in (fields_of_view, sizes):
        assert f"{', '.join(three[:-1])} and {three[-1]}" in text
    assert f"{PIXELS_A_CALL >> 20} Mi pixels" in text
