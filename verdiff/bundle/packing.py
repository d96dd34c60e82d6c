"""Write a bundle, whole or not at all: in a hidden folder beside its place, opened for a check, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from verdiff.bundle.layout import MANIFEST, check_names
from verdiff.bundle.manifest import Manifest
from verdiff.bundle.names import SUFFIX
from verdiff.bundle.reading import open_bundle
from verdiff.errors import BundleError, OutputError
from verdiff.files import Staging, require_folder
from verdiff.files.exchange import exchange
from verdiff.files.leftovers import OLD
from verdiff.files.places import require_name

_EPOCH = (1980, 1, 1, 0, 0, 0)
_READ = 0o100644


def write_bundle(
    path: str | Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    as_zip: bool | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write a bundle of `files` (bytes by name, without the manifest) and return the manifest with their hashes.

    The same arguments give the same bytes. A zip replaces an older file in one rename, so whoever looks finds the old
    one or the new one. A folder does the same where the system can exchange two folders in one step (Linux).
    Elsewhere the older one is moved aside first, and comes back if the new one cannot take its place. A bundle takes
    the place of an older bundle or of an empty folder. Another file is replaced if ``overwrite`` asks for it. Another
    folder never is.

    Args:
        path: Where the bundle goes; its folder is made if needed.
        manifest: What to say about the model; its `files` are replaced.
        files: Contents by name, for example `graphs/prior.fp32.onnx`.
        as_zip: A stored zip or a folder; None means a zip if the path ends with `.verdiff`.
        overwrite: Whether a file that is no bundle may be replaced by a zip.

    Raises:
        BundleError: a name or a size that a bundle must not have.
        OutputError: the place cannot be written, or holds something that is not a bundle.
    """
    target = Path(os.path.realpath(path))
    zipped = target.suffix == SUFFIX if as_zip is None else as_zip
    if MANIFEST in files:
        raise BundleError(f"{MANIFEST} among the files", "every file but the manifest", "pass the manifest by itself")
    check_names([MANIFEST, *files])
    manifest = replace(manifest, files={name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)})
    contents = {MANIFEST: manifest.to_json().encode("utf-8"), **{name: files[name] for name in sorted(files)}}
    with _output_errors(target):
        check_place(target, zipped=zipped, overwrite=overwrite)
        if zipped:
            _place_zip(target, contents, overwrite)
        else:
            _place_folder(target, contents)
    return manifest


@contextlib.contextmanager
def _output_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error.strerror or error})",
            "a folder that can be written, with room for the bundle",
            "choose another place, or change its permissions",
        ) from error


def check_place(target: Path, *, zipped: bool, overwrite: bool = False) -> None:
    """Refuse a place where a bundle cannot or must not be written.

    Raises:
        OutputError: It holds something that is no bundle, its name is too long, or its folder cannot be written.
    """
    require_name(target)
    require_folder(target.parent, make=True)
    if not target.exists():
        return
    kind = "file" if target.is_file() else "folder" if target.is_dir() else "device or pipe"
    wanted = "file" if zipped else "folder"
    if kind != wanted:
        raise OutputError(f"a {kind} at {target}", f"a {wanted}, or nothing there", "choose another name, or remove it")
    if (zipped and overwrite) or (not zipped and not any(target.iterdir())):
        return
    try:
        open_bundle(target)
    except BundleError as error:
        raise OutputError(
            f"a {kind} at {target} that is not a bundle ({error.found})",
            "an older bundle or nothing there" if zipped else "an older bundle, an empty folder or nothing there",
            "choose another name, or pass --overwrite to replace it"
            if zipped
            else "choose another name, or remove the folder yourself",
        ) from error


def _place_zip(target: Path, contents: Mapping[str, bytes], overwrite: bool) -> None:
    def check(path: Path) -> None:
        check_place(path, zipped=True, overwrite=overwrite)

    with Staging(target.parent, check=check) as staged:
        temporary = staged[target]
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for each, data in contents.items():
                info = zipfile.ZipInfo(each, _EPOCH)
                info.create_system, info.external_attr = 3, _READ << 16
                archive.writestr(info, data)
        open_bundle(temporary)


def _place_folder(target: Path, contents: Mapping[str, bytes]) -> None:
    with Staging(target.parent) as staged:
        temporary = staged.room / target.name
        temporary.mkdir()
        for name, data in contents.items():
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        open_bundle(temporary)
        _swap(staged, target)


def _swap(staged: Staging, target: Path) -> None:
    """Put a folder in another's place; a folder cannot be renamed over one that holds files."""
    if not target.exists():
        os.replace(staged.room / target.name, target)
        return
    if exchange(staged.room / target.name, target):
        return
    # From here on the next call would finish what this one leaves.
    staged.complete()
    aside = staged.room / OLD / target.name
    aside.parent.mkdir()
    os.replace(target, aside)
    try:
        os.replace(staged.room / target.name, target)
    except BaseException:
        os.replace(aside, target)
        raise
