"""The text of a manifest: JSON with a checksum over everything else in it, and the schema it is written in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from verdiff.bundle import checks
from verdiff.errors import BundleError
from verdiff.extras import upgrade

SCHEMA_VERSION = 1
# Schema of a bundle whose prior takes windows of a volume: a reader that knows slices alone would give a wrong mask.
VOLUME_SCHEMA = 2


def parse_text(data: str | bytes) -> dict[str, Any]:
    """The values of a manifest's text, of which no key stands twice.

    Raises:
        BundleError: It is not JSON, or no object.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        found = f"manifest.json is not usable JSON ({error})"
        raise BundleError(found, "one JSON object in UTF-8", checks.REMEDY) from error
    if not isinstance(values, dict):
        raise BundleError(f"manifest.json is {checks.describe(values)}", "one JSON object", checks.REMEDY)
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key given twice: {next(key for key in keys if keys.count(key) > 1)!r}")
    return values


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def digest(values: dict[str, Any]) -> str:
    """SHA-256 of values, whatever the order and the spacing they are written in."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def check_schema(found: object) -> None:
    """Refuse what this version cannot read.

    Raises:
        BundleError: A newer schema, or none.
    """
    if isinstance(found, int) and not isinstance(found, bool) and found > VOLUME_SCHEMA:
        raise BundleError(
            f"a bundle of schema {found}",
            f"schema {VOLUME_SCHEMA}, the newest this version of verdiff reads",
            upgrade(),
        )
    checks.integer("schema_version", found, SCHEMA_VERSION, VOLUME_SCHEMA)
