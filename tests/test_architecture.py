"""The page that tells a newcomer where things live: its drawing is the import graph's, its paths are there."""

from __future__ import annotations

import re

from tools.architecture import DRAWING, drawing, everywhere, ranks, rooms, shown
from tools.import_graph import ROOT

PAGE = ROOT / "docs" / "architecture.md"


def test_the_drawing_is_that_of_the_import_graph() -> None:
    assert DRAWING.read_text("utf-8") == drawing(), "an import between rooms is new or gone: run 'make architecture'"


def test_what_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:verdiff|studies|tools|tests|docs)/[\w./-]*)`", PAGE.read_text("utf-8"))
    assert named and [path for path in named if not (ROOT / path).exists()] == []


def test_an_import_that_others_stand_for_is_not_drawn() -> None:
    found: dict[str, set[str]] = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert shown(found, ranks(found)) == [("a", "b"), ("b", "c")]


def test_rooms_that_import_each_other_share_a_storey() -> None:
    found: dict[str, set[str]] = {"top": {"left"}, "left": {"right", "low"}, "right": {"left"}, "low": set()}
    assert ranks(found) == {"top": 2, "left": 1, "right": 1, "low": 0}
    assert {("left", "right"), ("right", "left")} <= set(shown(found, ranks(found)))


def test_small_modules_that_all_may_import_have_no_box() -> None:
    graph = {f"verdiff.{name}": frozenset({"verdiff.errors", "verdiff.imaging"}) for name in ("runtime", "train")}
    graph |= {"verdiff.errors": frozenset(), "verdiff.imaging": frozenset({"verdiff.errors", "verdiff.diffusion"})}
    graph |= {"verdiff.diffusion": frozenset()}
    assert everywhere(rooms(graph)) == ["errors"]
