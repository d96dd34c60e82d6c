"""Write a bundle, whole or not at all: under a temporary name beside its place, opened for a check, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from verdiff.bundle.layout import MANIFEST, check_names
from verdiff.bundle.manifest import Manifest
from verdiff.bundle.names import SUFFIX
from verdiff.bundle.reading import open_bundle
from verdiff.errors import BundleError, OutputError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_READ = 0o100644


def write_bundle(
    path: str | Path, manifest: Manifest, files: Mapping[str, bytes], *, as_zip: bool | None = None
) -> Manifest:
    """Write a bundle of `files` (bytes by name, without the manifest) and return the manifest with their hashes.

    The same arguments give the same bytes. A zip replaces an older file in one rename, so whoever looks finds the old
    one or the new one. A folder takes the place of an older bundle or of an empty folder, never of anything else; the
    older one is moved aside first and comes back if the new one cannot take its place.

    Args:
        path: Where the bundle goes; its folder is made if needed.
        manifest: What to say about the model; its `files` are replaced.
        files: Contents by name, for example `graphs/prior.fp32.onnx`.
        as_zip: A stored zip or a folder; None means a zip if the path ends with `.verdiff`.

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
        _check_place(target, zipped)
        target.parent.mkdir(parents=True, exist_ok=True)
        (_place_zip if zipped else _place_folder)(target, contents)
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


def _check_place(target: Path, zipped: bool) -> None:
    if not target.exists():
        return
    if zipped != target.is_file():
        found, wanted = ("folder", "file") if zipped else ("file", "folder")
        raise OutputError(
            f"a {found} at {target}", f"a {wanted}, or nothing there", "choose another name, or remove it"
        )
    if not zipped and any(target.iterdir()):
        try:
            open_bundle(target)
        except BundleError as error:
            raise OutputError(
                f"a folder at {target} that is not a bundle ({error.found})",
                "an older bundle, an empty folder or nothing there",
                "choose another name, or remove the folder yourself",
            ) from error


def _place_zip(target: Path, contents: Mapping[str, bytes]) -> None:
    temporary = _beside(target, "tmp")
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for each, data in contents.items():
                    info = zipfile.ZipInfo(each, _EPOCH)
                    info.create_system, info.external_attr = 3, _READ << 16
                    archive.writestr(info, data)
            file.flush()
            os.fsync(file.fileno())
        open_bundle(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _place_folder(target: Path, contents: Mapping[str, bytes]) -> None:
    temporary = _beside(target, "tmp")
    try:
        temporary.mkdir()
        for name, data in contents.items():
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        open_bundle(temporary)
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, target: Path) -> None:
    """Put a folder in another's place; a folder cannot be renamed over one that holds files."""
    if not target.exists():
        os.replace(temporary, target)
        return
    aside = _beside(target, "old")
    os.replace(target, aside)
    try:
        os.replace(temporary, target)
    except BaseException:
        os.replace(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _beside(target: Path, purpose: str) -> Path:
    """A name nobody uses in the target's folder, and so on its file system, where a rename is one step."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.{purpose}")
