"""The one door to SimpleITK: imported when first used, since it takes longer to load than all of verdiff.imaging."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

from verdiff.errors import BackendError, InputError

# SimpleITK's generated wrappers carry no annotations; the names say what is meant where the checker cannot.
Image: TypeAlias = Any
ImageFileReader: TypeAlias = Any


def simpleitk() -> Any:
    """The SimpleITK module.

    Raises:
        BackendError: It cannot be loaded, as where a limit leaves its libraries no room.
    """
    try:
        import SimpleITK
    except (ImportError, OSError) as error:
        raise BackendError(
            f"SimpleITK cannot be loaded: {error}",
            "SimpleITK, whole, and memory for its libraries (250 MB)",
            "give the process more memory (ulimit -v), or install SimpleITK again",
        ) from error

    return SimpleITK


def reason(error: RuntimeError) -> str:
    """The part of an ITK message that a person can use: its last line, without the object's address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1].removeprefix("ITK ERROR: ")) if lines else "no reason given"


def is_utf8(path: Path) -> bool:
    """Whether a path is text that ITK takes; any other would end the process."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def path_for_itk(path: Path) -> str:
    """A path as text that ITK takes.

    Raises:
        InputError: If the name is not UTF-8.
    """
    if not is_utf8(path):
        raise InputError(
            f"the path {str(path)!r}, which is not UTF-8",
            "a name in UTF-8 for this kind of file",
            "rename the file or its folder",
        )
    return str(path)
