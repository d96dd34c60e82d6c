"""Where things lie in a bundle, which names its files may have, and how large it may be.

The rules hold for every file system a bundle may be unpacked on, so a name that is harmless here and an escape, a
device or a second spelling of another file elsewhere is refused everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from verdiff.errors import BundleError
from verdiff.precisions import REFERENCE

MANIFEST = "manifest.json"
GOLDEN = "golden/golden.npz"
ROLES = ("prior", "denoiser", "pipeline", "pipeline-unrolled")

MAX_FILES = 256
MAX_NAME = 200
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 2 << 30

EXPECTED_NAME = (
    "a relative name such as 'graphs/prior.fp32.onnx': parts of letters, digits, '.', '_' and '-', joined by '/', "
    f"at most {MAX_NAME} characters, no part that starts with '.' or '-' or ends with '.'"
)
UNTRUSTED = "do not use this bundle; get it again from where it was published, or write it again with 'verdiff export'"

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:", re.ASCII)
# Windows opens these as devices, whatever the suffix and the folder.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.ASCII | re.IGNORECASE)


def graph_name(role: str, precision: str = REFERENCE) -> str:
    """Name of a role's graph in the bundle, for example `graphs/denoiser.fp16.onnx`."""
    return f"graphs/{role}.{precision}.onnx"


def check_name(name: str) -> str:
    """Return `name` if a bundle may hold a file of that name, else raise a BundleError that says what is wrong."""
    parts = name.split("/")
    if not name:
        problem = "is empty"
    elif "\\" in name:
        problem = "holds a backslash"
    elif name.startswith("/"):
        problem = "is absolute"
    elif _DRIVE.match(name):
        problem = "begins with a drive letter"
    elif ".." in parts:
        problem = "leaves the bundle's folder with '..'"
    elif len(name) > MAX_NAME:
        problem = f"is {len(name)} characters long"
    elif any(_DEVICES.fullmatch(part) for part in parts):
        problem = "is a device on Windows"
    elif not all(_PART.fullmatch(part) for part in parts):
        problem = "holds an empty part or a character that is not allowed"
    else:
        return name
    raise BundleError(f"a file in the bundle whose name {problem}: {name[:MAX_NAME]!r}", EXPECTED_NAME, UNTRUSTED)


def check_names(names: Iterable[str]) -> None:
    """Refuse unsafe names, names given twice (in any spelling of upper and lower case) and files used as folders."""
    seen: dict[str, str] = {}
    for name in names:
        key = check_name(name).lower()
        if key in seen:
            raise BundleError(
                f"two files of one name in the bundle: {seen[key]!r} and {name!r}",
                "every name once, also where upper and lower case are the same",
                UNTRUSTED,
            )
        seen[key] = name
    for key, name in seen.items():
        parent = key
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in seen:
                raise BundleError(
                    f"{seen[parent]!r} is a file and the folder of {name!r}", "files and folders apart", UNTRUSTED
                )


def check_size(name: str, size: int) -> int:
    """Return `size` in bytes if a file of that name may be so large, else raise a BundleError."""
    limit = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_FILE_BYTES
    if size > limit:
        raise BundleError(f"{name} in the bundle is {size:,} bytes", f"at most {limit:,} bytes", UNTRUSTED)
    return size


def check_totals(count: int, size: int) -> None:
    """Refuse a bundle of more files or more bytes than any model needs."""
    if count > MAX_FILES:
        raise BundleError(f"a bundle of {count:,} files", f"at most {MAX_FILES} files", UNTRUSTED)
    if size > MAX_TOTAL_BYTES:
        raise BundleError(f"a bundle of {size:,} bytes", f"at most {MAX_TOTAL_BYTES:,} bytes in all", UNTRUSTED)
