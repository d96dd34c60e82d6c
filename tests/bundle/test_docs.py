"""docs/bundle.md says what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.bundle.factory import make_bundle, make_manifest
from verdiff.bundle import Manifest, layout

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


def test_the_table_of_keys_is_the_manifest_s() -> None:
    table = PAGE.split("## The manifest")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.M)
    keys = {each.name for each in fields(Manifest)} | {"checksum"}
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys
    assert set(json.loads(make_manifest().to_json())) <= keys


def test_the_caps_are_the_code_s() -> None:
    caps = (
        layout.MAX_FILES,
        layout.MAX_FILE_BYTES >> 30,
        layout.MAX_TOTAL_BYTES >> 30,
        layout.MAX_MANIFEST_BYTES >> 20,
    )
    words = r"more than (\d+) files, a file over (\d+) GiB, more than (\d+) GiB in all, a manifest over (\d+) MiB"
    found = re.search(words, PAGE)
    assert found and tuple(map(int, found.groups())) == caps


def test_the_reader_for_other_languages_reads_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "model.verdiff")
    monkeypatch.chdir(tmp_path)
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "zipfile" in block)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["graph"] == bundle.graph("prior")
