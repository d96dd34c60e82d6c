"""Where each file of a bundle lies: in a folder, or in a stored zip whose index is read strictly.

Nothing is unpacked, followed or believed here. The standard `zipfile` repairs and tolerates what a reader of
strangers' files should refuse (bytes before the archive, names cut at a NUL, two files of one name, an index that
disagrees with the files), so the two structures that a stored zip needs are read as the specification gives them
(PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from verdiff.bundle.held import HeldFile
from verdiff.bundle.layout import MAX_FILES, UNTRUSTED, check_name, check_names, check_size, check_totals
from verdiff.errors import BundleError

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_MAX_INDEX_BYTES = 1 << 20
_WHOLE = "get the file again: it was cut short or changed on the way"
_STORED = "unpack it into a folder and open the folder, or pack it without compression ('zip -0 -D -r')"


@dataclass(frozen=True)
class Entry:
    """One file of a bundle: `size` bytes at `offset` of an open file."""

    file: HeldFile
    offset: int
    size: int


def index_of(path: Path) -> dict[str, Entry]:
    """Files of the bundle at `path`, a folder or a stored zip, by name.

    Raises:
        BundleError: nothing there, not a bundle's container, or anything in it that a bundle must not hold.
    """
    if "\0" in str(path):
        raise BundleError(f"a path with a NUL in it, {str(path)!r}", "the path of a bundle", "check the path")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _checked(_folder(path))
        if stat.S_ISREG(mode):
            held = HeldFile(path)
            return _checked(_zip(path, held))
    except FileNotFoundError as error:
        raise BundleError(f"nothing at {path}", "a bundle: a folder or a .verdiff file", "check the path") from error
    except OSError as error:
        found = f"{path} cannot be read ({error.strerror or error})"
        raise BundleError(found, "a folder or file that can be read", "check the path and its permissions") from error
    raise BundleError(f"{path} is neither a file nor a folder", "a folder or a .verdiff file", "check the path")


def open_regular(path: Path) -> BinaryIO:
    """Open a plain file for reading; OSError for anything else, and no waiting on pipes."""
    return HeldFile(path).stream()


def _checked(entries: list[tuple[str, Entry]]) -> dict[str, Entry]:
    check_names(name for name, _ in entries)
    check_totals(len(entries), sum(check_size(name, entry.size) for name, entry in entries))
    return dict(entries)


def _folder(root: Path) -> list[tuple[str, Entry]]:
    found: list[tuple[str, Path]] = []
    folders = [root]
    seen = 0
    while folders:
        with os.scandir(folders.pop()) as items:
            for item in items:
                seen += 1
                check_totals(seen if seen > 2 * MAX_FILES else 0, 0)
                name = Path(item.path).relative_to(root).as_posix()
                if item.is_symlink() or (hasattr(item, "is_junction") and item.is_junction()):
                    raise BundleError(f"{name} in the bundle is a link", "plain files and folders only", UNTRUSTED)
                if item.is_dir(follow_symlinks=False):
                    check_name(name)
                    folders.append(Path(item.path))
                elif item.is_file(follow_symlinks=False):
                    found.append((name, Path(item.path)))
                else:
                    raise BundleError(
                        f"{name} in the bundle is no plain file", "plain files and folders only", UNTRUSTED
                    )
    # Refused by their names and number before any of them is opened.
    check_names(name for name, _ in found)
    check_totals(len(found), 0)
    held = [(name, HeldFile(path, follow=False)) for name, path in found]
    return [(name, Entry(file, 0, file.size)) for name, file in held]


def _zip(path: Path, held: HeldFile) -> list[tuple[str, Entry]]:
    with held.stream() as file:
        return _zip_index(path, held, file)


def _zip_index(path: Path, held: HeldFile, file: BinaryIO) -> list[tuple[str, Entry]]:
    total = held.size
    magic = file.read(4)
    if magic not in (b"PK\x03\x04", b"PK\x05\x06"):
        raise BundleError(
            f"{path} is not a zip (it begins with {magic!r})" if magic else f"{path} is empty",
            "a bundle: a stored zip, usually named .verdiff, or a folder",
            "check the path; a model is made with 'verdiff export'",
        )
    file.seek(max(0, total - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != b"PK\x05\x06":
        raise BundleError(f"{path} is a zip without its end, {total:,} bytes", "the zip's index at its end", _WHOLE)
    _, disk, index_disk, here, count, size, offset, comment = _END.unpack(end)
    if disk or index_disk or here != count or comment or offset + size + _END.size != total:
        raise BundleError(
            f"{path} has an index that does not fit the file ({size:,} bytes at {offset:,} of {total:,})",
            "one zip in one file, nothing before, between or after",
            _WHOLE,
        )
    check_totals(count if count > 2 * MAX_FILES else 0, 0)
    if size > _MAX_INDEX_BYTES:
        raise BundleError(f"{path} has an index of {size:,} bytes", f"at most {_MAX_INDEX_BYTES:,} bytes", UNTRUSTED)
    file.seek(offset)
    return _zip_entries(path, held, file, file.read(size), count)


def _zip_entries(path: Path, held: HeldFile, file: BinaryIO, index: bytes, count: int) -> list[tuple[str, Entry]]:
    limit = held.size - _END.size - len(index)
    entries: list[tuple[str, Entry]] = []
    spans: list[tuple[int, int, str]] = []
    position = 0
    for _ in range(count):
        head = index[position : position + _CENTRAL.size]
        if len(head) < _CENTRAL.size or head[:4] != b"PK\x01\x02":
            raise BundleError(f"{path} has a damaged index at entry {len(spans)}", f"{count} entries", _WHOLE)
        (_, _, _, flags, method, _, _, _, packed, size, name_length, extra, comment, _, _, attributes, start) = (
            _CENTRAL.unpack(head)
        )
        raw = index[position + _CENTRAL.size :][:name_length]
        position += _CENTRAL.size + name_length + extra + comment
        name = check_name(raw.decode("latin-1").removesuffix("/"))
        _check_storage(name, flags, method, packed, size, attributes >> 16)
        begin = _data_begin(file, name, raw, (flags, method, packed, size), start)
        spans.append((start, begin + check_size(name, size), name))
        if not raw.endswith(b"/"):
            entries.append((name, Entry(held, begin, size)))
        elif size:
            raise BundleError(f"the folder {name} in the zip holds {size:,} bytes", "folders of no bytes", UNTRUSTED)
    if position != len(index):
        raise BundleError(f"{path} has an index longer than its {count} entries", "an index that ends there", _WHOLE)
    for (_, finish, name), (begin, _, other) in pairwise([*sorted(spans), (limit, limit, "the index")]):
        if finish > begin:
            raise BundleError(f"{name} and {other} overlap in the zip", "files that lie apart", UNTRUSTED)
    return entries


def _check_storage(name: str, flags: int, method: int, packed: int, size: int, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise BundleError(f"{name} in the zip is a link", "plain files only", UNTRUSTED)
    if flags & _ENCRYPTED:
        raise BundleError(f"{name} in the zip is encrypted", "files that are not encrypted", UNTRUSTED)
    if method:
        raise BundleError(
            f"{name} in the zip is compressed: {packed:,} bytes that say they unpack to {size:,}",
            "files stored as they are, so that nothing can unpack to more than it says",
            _STORED,
        )
    if packed != size:
        raise BundleError(
            f"{name} in the zip says it unpacks to {size:,} bytes and holds {packed:,}", "one size for both", UNTRUSTED
        )


def _data_begin(file: BinaryIO, name: str, raw: bytes, stated: tuple[int, int, int, int], start: int) -> int:
    file.seek(start)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        raise BundleError(f"{name} is not where the zip's index says, at byte {start:,}", "the file there", _WHOLE)
    _, _, flags, method, _, _, _, packed, size, name_length, extra = _LOCAL.unpack(head)
    if flags & _SIZES_FOLLOW:
        packed, size = stated[2:]
    if file.read(name_length) != raw or (flags, method, packed, size) != stated:
        raise BundleError(f"{name} differs between the zip's index and the file itself", "one name and size", UNTRUSTED)
    return start + _LOCAL.size + int(name_length) + int(extra)
