"""The default model's figures are of held-out patients, and its manifest says whose weights were measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bundle.factory import FILES, make_manifest
from tools.held_out_figures import with_figures
from verdiff.bundle import open_bundle, resolve_model, write_bundle
from verdiff.errors import DataError

SHIPS = open_bundle(resolve_model("spine-mr")).manifest
# As they were measured: without the words that this tool adds.
MEASURED = {
    key: {**getattr(SHIPS, key), "data": getattr(SHIPS, key)["data"].partition(", with ")[0]}
    for key in ("frontier", "margins")
}


def test_frontier_and_margins_come_with_the_word_whose_they_are(tmp_path: Path) -> None:
    write_bundle(tmp_path / "all.verdiff", make_manifest(), FILES)
    write_bundle(tmp_path / "fold0.verdiff", replace(make_manifest(version="0.9.0"), **MEASURED), FILES)
    with_figures(tmp_path / "all.verdiff", tmp_path / "fold0.verdiff", "weights of fold 0", tmp_path / "all.verdiff")
    made = open_bundle(tmp_path / "all.verdiff").manifest
    assert made.version == "1.2.3" and made.frontier["settings"] == SHIPS.frontier["settings"]
    assert made.margins["structures"] == SHIPS.margins["structures"]
    for figures in (made.frontier, made.margins):
        assert figures["data"].endswith(", with weights of fold 0 in the place of these weights")


def test_figures_of_another_kind_of_model_or_of_none_are_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "all.verdiff", make_manifest(), FILES)
    write_bundle(tmp_path / "coarse.verdiff", replace(make_manifest(spacing_mm=2.0), **MEASURED), FILES)
    for other, words in (("coarse", "another spacing_mm"), ("all", "without frontier or margins")):
        with pytest.raises(DataError, match=words):
            with_figures(tmp_path / "all.verdiff", tmp_path / f"{other}.verdiff", "weights", tmp_path / "out.verdiff")
    assert not (tmp_path / "out.verdiff").exists()


def test_the_model_that_ships_says_whose_figures_it_has() -> None:
    assert SHIPS.training["fold"] == "all"
    for figures in (SHIPS.frontier, SHIPS.margins):
        assert figures["data"].endswith("in the place of these weights")
