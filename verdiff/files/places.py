"""Where a file may go: a folder that is there or can be made and written, a name that its file system takes."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from verdiff.errors import OutputError

CHOOSE = "choose another output with -o"
# Of a folder that this package makes beside the files; a path must have room for it.
LONGEST_TEMPORARY = len("/.verdiff-0123456789abcdef.complete/.old")


def require_folder(folder: Path, *, make: bool = False) -> None:
    """Refuse a folder that cannot be written; nothing is left in it, and none is made here.

    Args:
        folder: Where files are to go.
        make: Whether it may be missing, if it can be made.

    Raises:
        OutputError: It is missing, no folder, or cannot be made or written.
    """
    there = nearest(folder)
    if there != folder and not make:
        raise OutputError(f"there is no folder {folder}", "a folder that can be written", "create it first")
    if not there.is_dir():
        raise OutputError(f"{folder} cannot be written: {there} is no folder", "a folder that can be written", CHOOSE)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise not_writable(folder, error) from error


def folder_of_all(folder: Path, page: Path) -> Path:
    """The folder that holds a page and the other files of a call, in it or below.

    Args:
        folder: Where the other files go.
        page: The page.

    Raises:
        OutputError: Neither folder holds the other.
    """
    above, place = absolute(page).parent, absolute(folder)
    if above.is_relative_to(place):
        return folder
    if place.is_relative_to(above):
        return above
    raise OutputError(
        f"{page} for the page, and {place} for the other files",
        "one folder for all files of a call, or below it, since they appear together or not at all",
        "name a folder for them too, --output FOLDER/, or another place for the page",
    )


def require_name(path: Path) -> None:
    """Refuse a name that the file system does not take, or a path too long for the temporary file beside it.

    Raises:
        OutputError: With the length that is allowed, where that is what is wrong.
    """
    there = nearest(path)
    try:
        encoded = [os.fsencode(part) for part in path.relative_to(there).parts]
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR):
            raise not_writable(path, error) from error
    except ValueError as error:
        # A zero byte, or characters that the file system's encoding lacks.
        raise OutputError(
            f"{str(path)!r} is no name for a file ({error})", "a name the file system takes", CHOOSE
        ) from error
    longest = _limit(there, "PC_NAME_MAX", 255)
    for name in encoded:
        if len(name) > longest:
            raise OutputError(
                f"a name of {len(name)} bytes: {os.fsdecode(name)}",
                f"at most {longest} bytes, which is what the file system of {there} takes",
                "give a shorter name with -o",
            )
    room = _limit(there, "PC_PATH_MAX", 4096) - 1 - LONGEST_TEMPORARY
    if len(os.fsencode(path)) > room:
        raise OutputError(
            f"a path of {len(os.fsencode(path))} bytes: {path}",
            f"at most {room} bytes, so that a temporary file beside it fits too",
            "work in a folder whose path is shorter, or give a shorter name with -o",
        )


def nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    return next((each for each in (path, *path.parents) if _is_there(each)), path)


def absolute(path: Path, *, resolve: bool = False) -> Path:
    """The path from the root; with ``resolve`` also without ``..``.

    Raises:
        OutputError: It is relative, and the working folder was deleted.
    """
    try:
        return Path(os.path.abspath(path)) if resolve else path.absolute()
    except OSError as error:
        raise OutputError(
            f"the working folder is gone ({error.strerror or error})",
            "a working folder, or the whole path of the output",
            "change into a folder that exists, or give the whole path with -o",
        ) from error


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a file would lie in this very folder, whatever links lead there."""
    try:
        return os.path.samefile(os.path.realpath(absolute(path).parent), folder)
    except OSError:
        return False


def not_writable(path: Path, error: OSError) -> OutputError:
    """The error for a file or folder that cannot be written."""
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}",
        "a folder that can be written, with room on its disk",
        f"{CHOOSE}, or change its permissions",
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):
        return False


def _limit(folder: Path, name: str, usual: int) -> int:
    try:
        found = os.pathconf(folder, name)
    except (AttributeError, OSError, ValueError):
        return usual
    return found if found > 0 else usual
