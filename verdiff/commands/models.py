"""``verdiff models``: the models that ship, the systems that can be trained, the configurations."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verdiff.systems import System


import json

from verdiff.commands.options import (
    AsJson,
)
from verdiff.commands.printing import show

MODEL_COLUMNS = {
    "bundle": ("name", "version", "what"),
    "system": ("name", "paper", "dimensions", "diffusion", "labels", "parameters", "gflop", "per", "source"),
    "configuration": ("name", "system", "what"),
}


def models(as_json: AsJson = False) -> None:
    """List the models that ship with this installation and the systems that can be trained."""
    table = model_table()
    show(json.dumps(table, indent=1) if as_json else "\n".join(model_lines(table)))


def model_table() -> list[dict[str, Any]]:
    """The bundles that ship with this installation, the systems that can be trained, and the shipped configurations."""
    from verdiff.systems import SYSTEMS

    return [*_bundles(), *(_system(system) for system in SYSTEMS.values()), *_configurations()]


def model_lines(table: list[dict[str, Any]]) -> list[str]:
    """What :func:`model_table` gives for people: a table a kind."""
    found: list[str] = []
    for kind, columns in MODEL_COLUMNS.items():
        cells = [[_cell(row[column]) for column in columns] for row in table if row["kind"] == kind]
        if not cells:
            continue
        widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
        found += [*([""] if found else []), f"{kind}s"]
        for row in [list(columns), *cells]:
            found.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return found


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 1000:
        return f"{value / 1e6:.2f} M"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _bundles() -> list[dict[str, Any]]:
    from verdiff.bundle import open_bundle, shipped_models

    table = []
    for name, path in shipped_models().items():
        manifest = open_bundle(path).manifest
        structures = ", ".join(label.name for label in manifest.labels)
        what = f"{structures} in {manifest.view} {manifest.modality}, {path.stat().st_size / 1e6:.1f} MB"
        table.append({"name": name, "kind": "bundle", "version": manifest.version, "what": what})
    return table


def _system(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "kind": "system",
        "title": system.title,
        "paper": system.paper,
        "dimensions": f"{system.dimensions}D",
        "diffusion": system.diffusion,
        "labels": system.labels,
        "parameters": system.parameters,
        "gflop": system.gflop,
        "per": "slice" if system.dimensions == 2 else "window",
        "source": system.source,
    }


def _configurations() -> list[dict[str, Any]]:
    table = []
    # Read as files: the training room itself needs torch.
    for path in sorted((Path(__file__).parent.parent / "train" / "configs").glob("*.toml")):
        text = path.read_text("utf-8")
        head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        comment = " ".join(line.removeprefix("#").strip() for line in head)
        values = tomllib.loads(text)
        table.append(
            {
                "name": path.stem,
                "kind": "configuration",
                "system": values.get("system", "verdiff-net"),
                "what": first_clause(comment) or values.get("model_id", ""),
            }
        )
    return table


def first_clause(comment: str) -> str:
    """What stands before the first full stop, colon or semicolon outside brackets."""
    clause = re.match(r"(?:\([^)]*\)|[^(.:;])*", comment)
    return clause[0].strip() if clause else ""
