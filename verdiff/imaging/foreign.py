"""What a file is that is not what its name says: told by how it begins."""

from __future__ import annotations

_BEGINNINGS = {
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy array",
    b"NRRD": "a NRRD",
    b"ObjectType": "a MetaImage",
    b"NDims": "a MetaImage",
    b"version https://git-lfs": "a pointer of Git LFS, not the file that it stands for",
    b"/annex/": "a pointer of git-annex, not the file that it stands for",
    b"../": "the name of another file, a link that was copied as text",
    b"{": "JSON",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
}


def kind_of(start: bytes) -> str | None:
    """What begins with these bytes (some 200), in words; None where that is not known."""
    if start[128:132] == b"DICM":
        return "a DICOM file"
    plain = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, kind in _BEGINNINGS.items():
        if start.startswith(mark) or plain.startswith(mark.lower()):
            return kind
    return None


def other_than(expected: str, start: bytes) -> str:
    """The words for a file that does not begin as it should: what it holds, or that it is not ``expected``."""
    kind = kind_of(start)
    return f"holds {kind}, not {expected}" if kind else f"is not {expected}, whatever its name says"
