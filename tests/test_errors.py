"""A remedy that names an option is text everywhere, and leaves the option out for who does not have it."""

from __future__ import annotations

import copy
import pickle

from verdiff.errors import DataError, InputError, Remedy, remedy_with

REMEDY = Remedy("say --colour red", option="--colour", otherwise="paint it")


def test_the_option_stands_first_and_is_left_out_for_who_has_it_not() -> None:
    assert REMEDY == "say --colour red; or paint it"
    assert remedy_with(REMEDY, {"--colour", "--size"}) == REMEDY
    assert remedy_with(REMEDY, {"--size"}) == "paint it"
    assert remedy_with("check the path", ()) == "check the path"


def test_it_outlives_another_error_pickling_and_copying() -> None:
    first = InputError("a grey wall", "a red one", REMEDY)
    second = DataError(f"case 1: {first.found}", first.expected, first.remedy)
    for error in (second, pickle.loads(pickle.dumps(second)), copy.deepcopy(second)):
        assert str(error).endswith("to do: say --colour red; or paint it")
        assert error.told(()).endswith("to do: paint it")
