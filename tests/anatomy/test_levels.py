"""Levels: their names, their order, and which sequences can exist."""

from __future__ import annotations

import pytest

from verdiff.anatomy import parse_level, roles_of
from verdiff.anatomy.levels import ORDER, VERSE_IDS, impossible, upward
from verdiff.anatomy.naming import names_of, numbered
from verdiff.errors import InputError


@pytest.mark.parametrize(
    ("text", "level"), [("L5", "L5"), (" l05 ", "L5"), ("D12", "T12"), ("c1", "C1"), ("T13", "T13")]
)
def test_levels_are_read_as_people_write_them(text: str, level: str) -> None:
    assert parse_level(text) == level


@pytest.mark.parametrize("text", ["L7", "S1", "C8", "T14", "5", "", "L55"])
def test_what_names_no_vertebra_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="C1 to C7"):
        parse_level(text)


def test_verse_numbers_every_level_once() -> None:
    assert sorted(VERSE_IDS.values()) == [*range(1, 26), 28]
    assert set(VERSE_IDS) == set(ORDER)
    assert [VERSE_IDS[level] for level in ("C7", "T1", "T12", "L1", "L6")] == [7, 8, 19, 20, 25]


def test_counting_up_meets_no_vertebra_too_many() -> None:
    assert upward("L5")[:7] == ("L5", "L4", "L3", "L2", "L1", "T12", "T11")
    assert len(upward("L5")) == 24
    assert upward("L6")[:2] == ("L6", "L5")
    assert upward("T13")[:2] == ("T13", "T12")


@pytest.mark.parametrize(
    "levels",
    [
        ("L5", "L4", "L3"),
        ("L6", "L5", "L4"),
        ("L1", "T13", "T12"),
        ("L1", "T11", "T10"),
        ("L5", None, "L3"),
        ("L4", "L3"),
    ],
)
def test_sequences_that_exist_are_possible(levels: tuple[str | None, ...]) -> None:
    assert impossible(levels, range(1, len(levels) + 1)) is None


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (("L5", "L5"), "L5 more than once"),
        (("L4", "L5"), "L5 above L4"),
        (("L5", "L3"), "L3 1 above L5"),
        (("L5", None, "L4"), "L4 2 above L5"),
        (("L1", "T13", "T13"), "T13 more than once"),
    ],
)
def test_sequences_that_cannot_be_are_named(levels: tuple[str | None, ...], reason: str) -> None:
    assert impossible(levels, range(1, len(levels) + 1)) == reason


def test_a_missed_vertebra_explains_a_missing_level() -> None:
    assert impossible(("L5", "L3"), (1, 3)) is None


def test_numbers_leave_out_what_is_missing() -> None:
    assert numbered([200, 165, 130, 96]) == (1, 2, 3, 4)
    assert numbered([200, 165, 96, 62]) == (1, 2, 4, 5)
    assert numbered([300, 265, 160, 126, 92]) == (1, 2, 5, 6, 7)
    assert numbered([50]) == (1,)
    assert numbered([]) == ()


def test_nothing_said_is_level_unknown() -> None:
    names = names_of((1, 2, 3), lowest=None)
    assert (names.levels, names.source) == ((None, None, None), None)


def test_more_vertebrae_than_there_are_levels_are_not_named() -> None:
    names = names_of(tuple(range(1, 14)), lowest="T5")
    assert set(names.levels) == {None}
    assert "above C1" in names.remarks[0]


def test_the_callers_word_counts_before_the_models() -> None:
    names = names_of((1, 2), lowest="L4", votes=[{"L5": 9}, {"L4": 9}])
    assert (names.levels, names.source) == (("L4", "L3"), "told")


def test_the_models_names_stand_where_they_are_possible() -> None:
    votes = [{"L6": 90, "L5": 10}, {"L5": 100}, {"L4": 100}]
    names = names_of((1, 2, 3), lowest=None, votes=votes)
    assert (names.levels, names.source, names.remarks) == (("L6", "L5", "L4"), "model", ())


def test_a_wrong_name_is_outvoted_and_a_tie_is_unknown() -> None:
    votes = [{"L5": 100}, {"L5": 80, "L4": 20}, {"L3": 100}, {"L2": 100}]
    names = names_of((1, 2, 3, 4), lowest=None, votes=votes)
    assert names.levels == ("L5", "L4", "L3", "L2")
    assert "80%" in names.remarks[0]
    unclear = names_of((1, 2), lowest=None, votes=[{"L4": 100}, {"L4": 100}])
    assert unclear.levels == (None, None)
    assert "levels unknown" in unclear.remarks[0]


def test_an_unnamed_vertebra_is_named_by_its_neighbours() -> None:
    names = names_of((1, 2, 3), lowest=None, votes=[{"L5": 100}, {}, {"L3": 100}])
    assert names.levels == ("L5", "L4", "L3")


def test_the_sacrum_names_only_where_nobody_else_does() -> None:
    assert names_of((1, 2), lowest=None, on_sacrum=True).levels == ("L5", "L4")
    assert names_of((1, 2), lowest="L6", on_sacrum=True).levels == ("L6", "L5")
    assert names_of((1, 2), lowest=None, votes=[{"L4": 5}, {"L3": 5}], on_sacrum=True).levels == ("L4", "L3")


def test_structures_are_known_by_their_names() -> None:
    roles = roles_of({"L5": 1, "T12": 2, "L4/L5": 3, "L5-S": 4, "Spinal canal": 5, "sacrum": 6, "aorta": 7})
    assert roles.levels == {1: "L5", 2: "T12"}
    assert (roles.discs, roles.canal, roles.sacrum, roles.vertebrae) == ((3, 4), (5,), (6,), ())
    plain = roles_of({"vertebra": 1, "disc": 2, "canal": 3})
    assert (plain.bones, plain.discs, plain.canal) == ((1,), (2,), (3,))
    with pytest.raises(InputError, match="a model of disc"):
        roles_of({"disc": 1})
