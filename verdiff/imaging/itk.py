"""The one door to SimpleITK: imported when first used, since it takes longer to load than all of verdiff.imaging."""

from __future__ import annotations

from typing import Any, TypeAlias

# SimpleITK's generated wrappers carry no annotations; the names say what is meant where the checker cannot.
Image: TypeAlias = Any
ImageFileReader: TypeAlias = Any


def simpleitk() -> Any:
    """The SimpleITK module."""
    import SimpleITK

    return SimpleITK


def reason(error: RuntimeError) -> str:
    """The part of an ITK message that a person can use: its last line, without the object's address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ") if lines else "no reason given"
