"""``verdiff info`` and ``verdiff models``: what a bundle or a scan is, and which models there are."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verdiff.errors import BundleError, InputError

if TYPE_CHECKING:
    from verdiff.bundle import Trust
    from verdiff.systems import System


def info(
    target: str,
    *,
    orientation: str | None = None,
    time_point: int | None = None,
    expect_sha256: str | None = None,
    trusted_key: Path | None = None,
) -> dict[str, Any]:
    """Facts of a bundle (a path or a shipped model's name) or of a scan, as plain JSON values.

    Args:
        target: What to look at.
        orientation: Of a scan that leaves it open, as :func:`verdiff.imaging.read_volume`.
        time_point: Of a DICOM series that holds several volumes.
        expect_sha256: Of the manifest of a bundle, which is refused if it has another.
        trusted_key: Public keys, one of which has signed a bundle, or it is refused.

    Raises:
        BundleError: ``target`` is a bundle that cannot be used, or not the one that is trusted.
        InputError: ``target`` is neither a bundle nor a scan that can be read, or a scan that is to be trusted.
    """
    from verdiff.bundle import MANIFEST, Trust, shipped_models

    path = Path(target)
    if target in shipped_models() or path.suffix == ".verdiff" or (path / MANIFEST).is_file():
        return bundle_facts(target, Trust(expect_sha256, trusted_key))
    if expect_sha256 is not None or trusted_key is not None:
        raise InputError(
            f"{target}, which is no bundle, to be trusted", "a bundle or a shipped model's name", "leave the option out"
        )
    if not path.exists():
        raise InputError(
            f"no scan, bundle or model {target!r}",
            f"a path, or a shipped model ({', '.join(shipped_models()) or 'none here'})",
            "check the path, or list the models with 'verdiff models'",
        )
    return scan_facts(path, orientation=orientation, time_point=time_point)


def bundle_facts(target: str | Path, trust: Trust) -> dict[str, Any]:
    """What a verified bundle says about its model, and what it was held against."""
    from verdiff.bundle import ROLES, open_bundle, resolve_model

    bundle = open_bundle(resolve_model(target), trust=trust)
    manifest = bundle.manifest
    defaults = manifest.defaults
    return {
        "model": f"{manifest.model_id} {manifest.version}",
        "labels": {label.name: label.id for label in manifest.labels},
        "modality": manifest.modality,
        "view": manifest.view,
        "spacing_mm": manifest.spacing_mm,
        "defaults": (
            f"{defaults.sampler}, {defaults.steps} steps, {defaults.samples} samples, seed {defaults.seed}"
            if manifest.table
            else "one pass"
        ),
        **({"volume": manifest.volume} if manifest.volume else {}),
        "graphs": [f"{role}.{precision}" for role in ROLES for precision in bundle.precisions(role)],
        "weights_stored": manifest.weights_stored,
        "training": manifest.training,
        "metrics": manifest.metrics,
        "intended_use": manifest.intended_use,
        "limits": list(manifest.limits),
        "manifest_sha256": bundle.manifest_sha256,
        **({"trusted": bundle.trusted} if bundle.trusted else {}),
    }


def scan_facts(path: Path, *, orientation: str | None = None, time_point: int | None = None) -> dict[str, Any]:
    """What a scan's file says about it, and whether the default model takes it."""
    from verdiff.bundle import open_bundle, resolve_model
    from verdiff.imaging import acquisition_view, plan_slices, read_volume
    from verdiff.imaging.padding import padding_below
    from verdiff.runtime.suitability import unsuitable_reasons

    volume = read_volume(path, orientation=orientation, time_point=time_point)
    geometry = volume.geometry
    facts: dict[str, Any] = {
        "scan": path.name,
        "size_xyz": list(geometry.size),
        "spacing_mm_xyz": [round(value, 5) for value in geometry.spacing_mm],
        "origin_mm": [round(value, 4) for value in geometry.origin_mm],
        "direction": [round(value, 6) for value in geometry.direction],
        "modality": volume.modality or "not stated",
        "view": acquisition_view(geometry),
        "type": str(volume.array.dtype),
        "intensities": [float(volume.array.min()), float(volume.array.max())],
    }
    if (padding := padding_below(volume.array)) is not None:
        facts["padding"] = f"values up to {padding:g} are taken for padding around the image, not for intensities"
    if volume.notes:
        facts["notes"] = list(volume.notes)
    try:
        manifest = open_bundle(resolve_model()).manifest
    except BundleError:
        return facts
    plan = plan_slices(
        geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=manifest.spacing_mm,
        multiple=manifest.multiple,
    )
    facts[f"for {manifest.model_id}"] = list(unsuitable_reasons(volume, manifest, plan)) or "suitable"
    return facts


def lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """``facts`` for people: one a line, nested ones indented."""
    found = []
    for name, value in facts.items():
        if isinstance(value, dict):
            found += [f"{indent}{name}:", *lines(value, indent + "  ")]
        elif isinstance(value, list):
            found.append(f"{indent}{name}: {', '.join(str(item) for item in value)}")
        else:
            found.append(f"{indent}{name}: {value}")
    return found


def models() -> list[dict[str, Any]]:
    """The bundles that ship with this installation, the systems that can be trained, and the shipped configurations."""
    from verdiff.systems import SYSTEMS

    return [*_bundles(), *(_system(system) for system in SYSTEMS.values()), *_configurations()]


def model_lines(table: list[dict[str, Any]]) -> list[str]:
    """What :func:`models` gives for people: a table a kind."""
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


MODEL_COLUMNS = {
    "bundle": ("name", "version", "what"),
    "system": ("name", "paper", "dimensions", "diffusion", "labels", "parameters", "gflop", "per", "source"),
    "configuration": ("name", "system", "what"),
}


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
