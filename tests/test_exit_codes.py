"""One table of exit codes, in the code and in the docs."""

from __future__ import annotations

import verdiff.runtime
from tools.exit_codes import PAGE, page
from verdiff.errors import EXIT_CODES, VerdiffError


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), "run 'make reference'"


def test_every_error_has_a_code_of_the_table() -> None:
    assert verdiff.runtime.Cancelled in VerdiffError.__subclasses__()
    for error in VerdiffError.__subclasses__():
        assert error.exit_code in EXIT_CODES, error.__name__
        assert error.meaning


def test_no_two_errors_of_the_table_share_a_code() -> None:
    codes = [e.exit_code for e in VerdiffError.__subclasses__() if e.__module__ == VerdiffError.__module__]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2} & set(codes)
