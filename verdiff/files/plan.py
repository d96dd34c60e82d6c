"""What a call will write, looked at as a whole before anything is computed: nothing of a user's is in the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from verdiff.errors import OutputError
from verdiff.files.leftovers import clear
from verdiff.files.marks import made_by_verdiff
from verdiff.files.places import CHOOSE, absolute, require_folder, require_name
from verdiff.files.staging import Staging

# What has a JSON of its own name beside it in a data set, as BIDS has it.
IMAGE_SUFFIXES = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".img", ".hdr", ".mgz", ".dcm"),
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
)
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Plan:
    """The files of one call, checked.

    Attributes:
        folder: All of them lie in it or below.
        files: Path by what it holds, for messages; the last is the one whose presence says that all are there.
        inputs: What the call reads, which is never written to.
        overwrite: Whether the user said that files which are not verdiff's may be replaced.
    """

    folder: Path
    files: Mapping[str, Path]
    inputs: Mapping[str, Path]
    overwrite: bool = False

    def check(self, path: Path, what: str = "file") -> None:
        """Refuse one place.

        Args:
            path: Where a file is to go.
            what: What it holds, in words.

        Raises:
            OutputError: It is taken by something that must not be replaced.
        """
        require_name(path)
        for name, read in self.inputs.items():
            if _same(path, read):
                raise OutputError(f"{path} is the {name} itself", f"another name for the {what}", CHOOSE)
        image = self._image_of(path)
        if image is not None:
            raise OutputError(
                f"{path} would be the JSON of {image.name}, as data sets name it, and it is where the {what} goes",
                f"a name for the {what} that belongs to no other image",
                f"{CHOOSE}, for example one that ends in _seg",
            )
        while (found := _looked_at(path)) is not None:
            try:
                self._check_taken(path, found, what)
            except OutputError:
                # Another call may replace the file between the looks at it; then what is there now is looked at.
                if _is_still(found, path):
                    raise
            else:
                return

    def staged(self) -> Staging:
        """Where the files are written until all are there; they get their marks and appear together.

        Raises:
            OutputError: See :class:`Staging`.
        """
        return Staging(self.folder, check=self.check, mark=True)

    def _check_taken(self, path: Path, found: os.stat_result, what: str) -> None:
        link = stat.S_ISLNK(found.st_mode)
        kind = _kind(path)
        if kind not in ("", "nothing"):
            raise OutputError(
                f"{path} is {'a link to ' if link else ''}{kind}", f"a plain file for the {what}, or nothing", CHOOSE
            )
        if self.overwrite:
            return
        if link and kind == "nothing":
            why = f"a link to {os.readlink(path)}, which is not there"
        elif not found.st_mode & _WRITABLE:
            why = "there and protected from being written"
        elif not made_by_verdiff(path):
            why = "there, and verdiff did not write it or it was changed since"
        else:
            return
        raise OutputError(
            f"{path} is {why}; the {what} would replace it",
            "a free name, or a file of an earlier run of verdiff",
            f"{CHOOSE}, move the file away, or pass --overwrite to replace it",
        )

    def _image_of(self, path: Path) -> Path | None:
        """Somebody else's image that ``path``, a JSON, would describe."""
        if path.suffix.lower() != ".json":
            return None
        ours = set(self.files.values())
        for suffix in IMAGE_SUFFIXES:
            image = path.with_name(path.name[: -len(".json")] + suffix)
            try:
                if image not in ours and image.exists() and not made_by_verdiff(image):
                    return image
            except OSError:
                continue
        return None


def plan_files(
    files: Mapping[str, Path | None],
    *,
    inputs: Mapping[str, Path | None] | None = None,
    overwrite: bool = False,
    folder: Path | None = None,
    make: bool = False,
) -> Plan:
    """Check every file that a call may write, before it computes anything.

    What an interrupted call left in the folder is removed first.

    Args:
        files: Path by what it holds; None is left out. The last is the one that says that all are there.
        inputs: What the call reads, by what it is.
        overwrite: Whether files that are not verdiff's may be replaced. Inputs, the data set's JSON files, folders,
            devices and pipes never are.
        folder: Where all of them lie; that of the first file by default.
        make: The folder may be missing; it is made when the files are written.

    Raises:
        OutputError: The folder cannot be written, a name is too long, or a place is taken.
    """
    wanted = {name: absolute(path) for name, path in files.items() if path is not None}
    read = {name: absolute(path) for name, path in (inputs or {}).items() if path is not None}
    place = absolute(folder) if folder is not None else next(iter(wanted.values())).parent
    plan = Plan(place, wanted, read, overwrite)
    for path in wanted.values():
        require_name(path)
    require_folder(place, make=make)
    clear(place)
    _check_apart(wanted)
    for name, path in wanted.items():
        plan.check(path, name)
    return plan


def _check_apart(files: Mapping[str, Path]) -> None:
    seen: dict[str, str] = {}
    for name, path in files.items():
        other = seen.setdefault(os.path.normcase(path), name)
        if other != name:
            raise OutputError(f"{path} for the {other} and for the {name}", "a name for each of them", CHOOSE)


def existing(folder: Path, pattern: str) -> Iterable[Path]:
    """The files of a folder by a pattern, in order; none where there is no such folder."""
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_symlink() or not path.is_dir())
    except OSError:
        return []


def _looked_at(path: Path) -> os.stat_result | None:
    """What is at a place itself, not at the end of its links; None for nothing.

    Raises:
        OutputError: It cannot be told.
    """
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"{path} cannot be looked at: {error.strerror or error}", "a place that can be written", CHOOSE
        ) from error


def _is_still(found: os.stat_result, path: Path) -> bool:
    now = _looked_at(path)
    return now is not None and (now.st_ino, now.st_mtime_ns) == (found.st_ino, found.st_mtime_ns)


def _same(path: Path, other: Path) -> bool:
    try:
        return path == other or path.samefile(other)
    except (OSError, ValueError):
        return False


def _kind(path: Path) -> str:
    """What is at the end of a path's links, if it is no plain file: empty for one, "nothing" where nothing is."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "nothing"
    names = {
        "a folder": stat.S_ISDIR,
        "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
    }
    return next((name for name, holds in names.items() if holds(mode)), "")
