"""``docs/exit-codes.md``, made from the table in :mod:`verdiff.errors`: part of ``make reference``."""

from __future__ import annotations

from tools.import_graph import ROOT
from verdiff.errors import EXIT_CODES, VerdiffError, family
from verdiff.markdown import markdown_table

PAGE = ROOT / "docs" / "exit-codes.md"
HEAD = """# Exit codes

Every command of `verdiff` ends with one of these. An error is three lines on stderr: what was found, what was
expected, what to do. From Python the same errors are exceptions of one family, `verdiff.errors.VerdiffError`, and the
code is their `exit_code`.

"""

TAIL = """
The files of a call are written in a hidden folder and renamed when all are complete: whatever the code, they are the
old files or the complete new ones ([files](files.md)). Code 7 is found before anything is computed wherever it can
be. Where standard output is closed, full, or has lost its reader, a command that writes files ends with the code of
its files, and one that only prints with 141 (no reader) or 7. SIGHUP gives 129. Codes 11 and 14 are outcomes, not
errors: the files are there, and the mask in them is empty or doubtful. `verdiff doctor` ends with 1 when something
needs to be done.

This page is made from the code by `make reference`.
"""


def page() -> str:
    """The whole page."""
    named = {error.exit_code: error.__name__ for error in family() if error.__module__ == VerdiffError.__module__}
    rows = [
        (str(code), meaning, f"`{named[code]}`" if code in named else "")
        for code, meaning in sorted(EXIT_CODES.items())
    ]
    table = markdown_table(("code", "meaning", "exception"), rows, words=("meaning", "exception"))
    return HEAD + "\n".join(table) + "\n" + TAIL
