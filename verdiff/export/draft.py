"""A bundle in the making: manifest and files in memory, opened for checks as a user would, written when they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verdiff.bundle import Bundle, Manifest, graph_name, open_bundle, write_bundle
from verdiff.bundle.names import SUFFIX
from verdiff.bundle.objects import GateRecord
from verdiff.files import scratch_folder


@dataclass(frozen=True)
class Draft:
    """What is to be written.

    Attributes:
        manifest: All but the hashes, which writing fills in.
        files: Contents by name.
    """

    manifest: Manifest
    files: dict[str, bytes]

    @classmethod
    def of(cls, bundle: Bundle) -> Draft:
        """A copy of a bundle, to be added to."""
        return cls(bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files})

    def with_graphs(self, precision: str, graphs: Mapping[str, bytes]) -> Draft:
        """The draft with graphs by role."""
        named = {graph_name(role, precision): data for role, data in graphs.items()}
        return replace(self, files={**self.files, **named})

    def with_gate(self, precision: str, gate: Mapping[str, Any]) -> Draft:
        """The draft with the record of a gate in the manifest."""
        return replace(
            self,
            manifest=replace(
                self.manifest, gates={**self.manifest.gates, precision: GateRecord.of(f"gates.{precision}", gate)}
            ),
        )

    def with_frontier(self, frontier: Mapping[str, Any]) -> Draft:
        """The draft with settings to choose from in the manifest."""
        return replace(self, manifest=replace(self.manifest, frontier=dict(frontier)))

    def with_margins(self, margins: Mapping[str, Any]) -> Draft:
        """The draft with the distances of calibration patients in the manifest."""
        return replace(self, manifest=replace(self.manifest, margins=dict(margins)))

    @contextmanager
    def opened(self) -> Iterator[Bundle]:
        """The draft as a verified bundle in a temporary folder."""
        with scratch_folder() as folder:
            trial = folder / f"trial{SUFFIX}"
            write_bundle(trial, self.manifest, self.files, as_zip=True)
            yield open_bundle(trial)

    def write(self, output: Path, *, overwrite: bool = False) -> int:
        """Write it (``.verdiff`` is one file, else a folder); returns its size in bytes.

        Raises:
            OutputError: It cannot be written.
        """
        write_bundle(output, self.manifest, self.files, as_zip=output.suffix == SUFFIX, overwrite=overwrite)
        return sum(len(data) for data in self.files.values())


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
