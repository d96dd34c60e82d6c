"""Zipped DICOM files: unpacked into a folder for as long as they are read, under names that no archive chooses."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from verdiff.errors import InputError
from verdiff.files import scratch_folder
from verdiff.files.scratch import no_scratch

ZIP_SUFFIX = ".zip"
_MARKS = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_FILES = 100_000
_MOST_BYTES = 32 << 30
_BLOCK = 1 << 20
_LONGEST_NAME = 120


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with path.open("rb") as stream:
        return stream.read(4) in _MARKS


@contextmanager
def unzipped(path: Path) -> Iterator[list[Path]]:
    """The files of an archive, in the order of their names; they are gone at the end of the block.

    Each lies in a folder of its own, so that nothing in the archive says where anything is written. An error about one
    of them names the archive.

    Raises:
        InputError: The archive is damaged, encrypted, or unpacks to more than a series can be.
        OutputError: There is no room for its files.
    """
    with scratch_folder() as folder:
        try:
            yield list(_members(path, folder))
        except InputError as error:
            here, there = f"{folder}/", f"{path}/"
            raise InputError(
                *(_without_numbers(text, here, there) for text in (error.found, error.expected, error.remedy))
            ) from error


def _members(path: Path, folder: Path) -> Iterator[Path]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((each for each in archive.infolist() if not each.is_dir()), key=lambda each: each.filename)
            _check_size(path, members)
            for index, member in enumerate(members):
                place = folder / f"{index:06d}" / _plain_name(member.filename)
                with archive.open(member) as source:
                    _save(_blocks(source, path), place, path)
                yield place
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, NotImplementedError, OverflowError) as error:
        encrypted = "password" in str(error) or "encrypted" in str(error)
        raise InputError(
            f"{path} {'is encrypted' if encrypted else f'is truncated, damaged or no zip archive ({error})'}",
            "a complete zip archive of one DICOM series",
            "unpack it and pass the folder of the series" if encrypted else "copy or export the archive again",
        ) from error


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > _MOST_FILES or total > _MOST_BYTES:
        raise InputError(
            f"{path} states {len(members)} files of {total >> 20} MiB in all",
            f"an archive of one series: {_MOST_FILES} files and {_MOST_BYTES >> 20} MiB at most",
            "unpack it and pass the folder of the series",
        )


def _blocks(source: IO[bytes], path: Path) -> Iterator[bytes]:
    """A member's contents; zipfile ends them with an error where they are longer than it states."""
    try:
        while block := source.read(_BLOCK):
            yield block
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}", "a readable file", "copy the archive again"
        ) from error


def _save(blocks: Iterator[bytes], place: Path, path: Path) -> None:
    try:
        place.parent.mkdir()
        with place.open("xb") as target:
            target.writelines(blocks)
    except OSError as error:
        raise no_scratch(f"{path} cannot be unpacked into a folder for temporary files", error) from error


def _plain_name(name: str) -> str:
    """The last part of a member's name, which messages tell; something else where it is no name."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return last if last not in ("", "..") and last.isprintable() and len(last) <= _LONGEST_NAME else "member"


def _without_numbers(text: str, here: str, there: str) -> str:
    """A message with the archive in place of the folder, and without the numbers of its files' folders."""
    first, *parts = text.split(here)
    return first + "".join(there + part.partition("/")[2] for part in parts)
