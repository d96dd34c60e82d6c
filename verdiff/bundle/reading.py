"""Open a bundle: everything in it is checked against its manifest before anything in it is used.

Every file is opened once. A bundle that is deleted or replaced meanwhile goes on being the one that was opened.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from verdiff.bundle.golden import check_golden, unpack_golden
from verdiff.bundle.index import Entry, index_of
from verdiff.bundle.layout import GOLDEN, MANIFEST, ROLES, graph_name
from verdiff.bundle.manifest import Manifest
from verdiff.bundle.trust import Trust, signature_path
from verdiff.errors import BundleError
from verdiff.precisions import REFERENCE

_BLOCK = 1 << 20
# Seconds between tries while a bundle is being exchanged, which takes a moment where it is a folder.
_PATIENCE = (0.01, 0.02, 0.05, 0.1, 0.2)
_NOTHING_ASKED = Trust()
_AGAIN = "get the bundle again from where it was published, or write it again with 'verdiff export'"


class Bundle:
    """A verified bundle. Made by `open_bundle`; holds its files open, and the manifest in memory.

    Attributes:
        path: The folder or zip it was opened from.
        manifest: What the bundle says about its model.
        manifest_sha256: SHA-256 of `manifest.json`'s bytes, which names the whole bundle: it
            holds every other hash.
        trusted: What it was compared with, see :meth:`verdiff.bundle.trust.Trust.check`; empty if nothing was asked
            for.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        manifest_sha256: str,
        entries: Mapping[str, Entry],
        trusted: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.path, self.manifest, self.manifest_sha256 = path, manifest, manifest_sha256
        self.trusted = dict(trusted)
        self._entries, self._kept = dict(entries), dict[str, bytes]()

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.model_id} {self.manifest.version}, {str(self.path)!r})"

    def read(self, name: str) -> bytes:
        """Bytes of one file, hashed again as they are read: what comes back is what the manifest names.

        Raises:
            BundleError: no such file, or it was changed since the bundle was opened.
        """
        expected = self.manifest_sha256 if name == MANIFEST else self.manifest.files.get(name)
        if expected is None:
            raise BundleError(f"no {name} in {self.path}", "one of " + ", ".join(self.manifest.files), _AGAIN)
        if name in self._kept:
            return self._kept[name]
        if name not in self._entries:
            raise BundleError(
                f"{name}, of a bundle in memory", f"one of {', '.join(self._kept)}", "open the bundle again"
            )
        data = _read(self._entries[name], name)
        _compare(name, hashlib.sha256(data).hexdigest(), expected)
        return data

    def in_memory(self, names: Iterable[str]) -> Bundle:
        """The same bundle with these files in memory and none open: the others cannot be read from it.

        Raises:
            BundleError: See :meth:`read`.
        """
        held = Bundle(self.path, self.manifest, self.manifest_sha256, {}, self.trusted)
        held._kept = {name: self.read(name) for name in names}
        return held

    def precisions(self, role: str) -> tuple[str, ...]:
        """Precisions the bundle holds a role's graph in, `fp32` first."""
        head, tail = graph_name(role, "\0").split("\0")
        found = (n[len(head) : -len(tail)] for n in self.manifest.files if n.startswith(head) and n.endswith(tail))
        return tuple(sorted(found, key=lambda precision: (precision != REFERENCE, precision)))

    def has(self, role: str, precision: str | None = None) -> bool:
        """Whether a role's graph is there, in `precision` or in any; role `golden` asks for the self-test's arrays."""
        if role == "golden":
            return GOLDEN in self.manifest.files
        return bool(self.precisions(role)) if precision is None else graph_name(role, precision) in self.manifest.files

    def graph(self, role: str, precision: str = REFERENCE) -> bytes:
        """The ONNX file of a role: `prior`, `denoiser` or `pipeline`.

        Raises:
            BundleError: the bundle has no graph of that role and precision; the message lists what it has.
        """
        if not self.has(role, precision):
            held = [f"{each}.{p}" for each in ROLES for p in self.precisions(each)]
            raise BundleError(
                f"no {role} graph in {precision} in {self.path}",
                "one of " + ", ".join(held) if held else "a bundle with graphs",
                f"ask for a precision that is there, or export the model again with {precision}",
            )
        return self.read(graph_name(role, precision))

    def golden(self) -> dict[str, np.ndarray]:
        """The self-test's arrays by name: inputs, noise and the expected output of every stage.

        Raises:
            BundleError: No plain arrays, or not those of this model: one is missing, or has another size.
        """
        arrays = unpack_golden(self.read(GOLDEN))
        check_golden(arrays, self.manifest, denoiser=self.has("denoiser"))
        return arrays


def open_bundle(path: str | Path, *, trust: Trust = _NOTHING_ASKED) -> Bundle:
    """Open a folder or stored zip and verify every hash in it once, in blocks, before returning.

    While another bundle is being put in its place, this is the old one or the new one.

    Args:
        path: The folder or the zip.
        trust: What its manifest must match before it is read.

    Raises:
        BundleError: missing, damaged, unsafe or newer than this version; says what was found and what was expected.
        UntrustedBundleError: not what ``trust`` asks for.
        InputError: ``trust`` asks for what is no hash or no key.
        BackendError: a signature is asked for, and the extra ``[sign]`` is not installed.
    """
    path = Path(path)
    for seconds in (*_PATIENCE, None):
        before = _identity(path)
        try:
            return _open(path, trust)
        except BundleError:
            # What was met half-way through an exchange is no verdict on either bundle.
            if seconds is None or _identity(path) == before:
                raise
        time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _identity(path: Path) -> tuple[tuple[int, ...], ...]:
    """What changes when another bundle, or another version of its manifest, is put at a path."""
    found = []
    for each in (path, path / MANIFEST, signature_path(path)):
        try:
            status = each.stat()
        except (OSError, ValueError):
            continue
        found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _open(path: Path, trust: Trust) -> Bundle:
    entries = index_of(path)
    if MANIFEST not in entries:
        inner = next((name for name in entries if name.endswith("/" + MANIFEST)), None)
        raise BundleError(
            f"no {MANIFEST} in {path}" + (f", but one at {inner}" if inner else ""),
            f"a bundle with {MANIFEST} at its top",
            f"open or pack the folder {inner.rpartition('/')[0]} itself"
            if inner
            else "check the path: this is no bundle",
        )
    data = _read(entries[MANIFEST], MANIFEST)
    trusted = trust.check(path, data)
    manifest = Manifest.from_json(data)
    listed = {*manifest.files, MANIFEST}
    if missing := sorted(listed - entries.keys()):
        raise BundleError(f"{path} lacks {_some(missing)}", "every file that its manifest lists", _AGAIN)
    if unlisted := sorted(entries.keys() - listed):
        raise BundleError(
            f"{path} holds {_some(unlisted)}, not in its manifest",
            "only files that its manifest lists",
            "remove what was added, or get the bundle again from where it was published",
        )
    for name, expected in manifest.files.items():
        _compare(name, _hash(entries[name], name), expected)
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest(), entries, trusted)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _compare(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise BundleError(
            f"{name} has SHA-256 {found}",
            f"{expected}, as the manifest says",
            f"the file was changed or damaged: {_AGAIN}",
        )


def _blocks(entry: Entry, name: str) -> Iterator[bytes]:
    """A file's bytes in blocks, exactly as many as when the bundle was looked through."""
    left = entry.size
    try:
        while left:
            block = entry.file.read(entry.offset + entry.size - left, min(left, _BLOCK))
            if not block:
                raise BundleError(f"{name} ends {left:,} bytes early", f"{entry.size:,} bytes", _AGAIN)
            left -= len(block)
            yield block
    except OSError as error:
        raise BundleError(f"{name} cannot be read ({error})", "a file that can be read", _AGAIN) from error


def _read(entry: Entry, name: str) -> bytes:
    return b"".join(_blocks(entry, name))


def _hash(entry: Entry, name: str) -> str:
    digest = hashlib.sha256()
    for block in _blocks(entry, name):
        digest.update(block)
    return digest.hexdigest()
