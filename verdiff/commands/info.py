"""``verdiff info``: what a scan or a bundle is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verdiff.commands.options import (
    AsJson,
    ExpectSha256,
    Orientation,
    TimePoint,
    TrustedKey,
)
from verdiff.commands.printing import show
from verdiff.errors import BundleError, InputError

if TYPE_CHECKING:
    from verdiff.bundle import Trust


def info(
    target: Annotated[str, typer.Argument(help="A scan, a bundle, or a shipped model's name.")],
    as_json: AsJson = False,
    orientation: Orientation = None,
    time_point: TimePoint = None,
    expect_sha256: ExpectSha256 = None,
    trusted_key: TrustedKey = None,
) -> None:
    """Say what a scan or a bundle is, and whether a bundle is the one that is trusted."""
    facts = facts_of(
        target,
        orientation=orientation,
        time_point=time_point,
        expect_sha256=expect_sha256,
        trusted_key=trusted_key,
    )
    show(json.dumps(facts, indent=1) if as_json else "\n".join(lines(facts)))


def facts_of(
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
        orientation: What a scan leaves open, as :func:`verdiff.imaging.read_volume` takes it.
        time_point: Number of a volume in a DICOM series that holds several.
        expect_sha256: Hash of a bundle's manifest; a bundle with another is refused.
        trusted_key: Public keys, one of which has signed a bundle, or it is refused.

    Raises:
        BundleError: ``target`` is a bundle that cannot be used, or not the one that is trusted.
        InputError: ``target`` is neither a bundle nor a scan that can be read, or a scan that is to be trusted.
    """
    from verdiff.bundle import MANIFEST, Trust, shipped_models

    path = Path(target)
    if target in shipped_models() or path.suffix == ".verdiff" or os.path.isfile(path / MANIFEST):
        return bundle_facts(target, Trust(expect_sha256, trusted_key))
    if expect_sha256 is not None or trusted_key is not None:
        raise InputError(
            f"{target}, which is no bundle, to be trusted", "a bundle or a shipped model's name", "leave the option out"
        )
    if not os.path.exists(path):
        raise InputError(
            f"no scan, bundle or model {target!r}",
            f"a path, or a shipped model ({', '.join(shipped_models()) or 'none here'})",
            "check the path, or list the models with 'verdiff models'",
        )
    return scan_facts(path, orientation=orientation, time_point=time_point)


def bundle_facts(target: str | Path, trust: Trust) -> dict[str, Any]:
    """What a verified bundle says about its model, and what it was compared with."""
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
        **({"volume": manifest.volume.to_dict()} if manifest.volume else {}),
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
