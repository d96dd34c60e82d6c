"""A folder for what is needed only while something is computed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verdiff.errors import OutputError


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder below TMPDIR, removed with all in it at the end of the block.

    Raises:
        OutputError: There is no folder for temporary files that can be written.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="verdiff-")
    except OSError as error:
        raise no_scratch("no folder for temporary files", error) from error
    with made as folder:
        yield Path(folder)


def no_scratch(what: str, error: OSError) -> OutputError:
    """The error for temporary files that cannot be written."""
    return OutputError(
        f"{what}: {error.strerror or error}",
        "a folder for temporary files that can be written, with room on its disk",
        "name one in TMPDIR",
    )
