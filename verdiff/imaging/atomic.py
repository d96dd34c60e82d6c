"""Files that appear whole or not at all: :mod:`verdiff.files`, by the name it has among the imaging tools."""

from __future__ import annotations

from verdiff.files.atomic import atomic_path, full_suffix

__all__ = ["atomic_path", "full_suffix"]
