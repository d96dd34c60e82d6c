"""The contract between export and runtime: one folder or stored zip that holds a model and everything said about it.

`write_bundle` writes one, `open_bundle` reads it, and `resolve_model` finds it. docs/bundle.md explains the format.
"""

from __future__ import annotations

from verdiff.bundle.golden import pack_golden
from verdiff.bundle.layout import GOLDEN, MANIFEST, ROLES, graph_name
from verdiff.bundle.manifest import Defaults, Feature, Label, Manifest
from verdiff.bundle.manifest_text import SCHEMA_VERSION, VOLUME_SCHEMA
from verdiff.bundle.names import DEFAULT_MODEL, model_argument, resolve_model, shipped_models
from verdiff.bundle.packing import write_bundle
from verdiff.bundle.reading import Bundle, open_bundle
from verdiff.bundle.trust import Trust

__all__ = [
    "DEFAULT_MODEL",
    "GOLDEN",
    "MANIFEST",
    "ROLES",
    "SCHEMA_VERSION",
    "VOLUME_SCHEMA",
    "Bundle",
    "Defaults",
    "Feature",
    "Label",
    "Manifest",
    "Trust",
    "graph_name",
    "model_argument",
    "open_bundle",
    "pack_golden",
    "resolve_model",
    "shipped_models",
    "write_bundle",
]
