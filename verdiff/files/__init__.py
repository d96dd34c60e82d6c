"""The files a call writes: planned before anything is computed, put in place together, recognised afterwards.

Needs nothing of verdiff but its errors, so every room may use it.
"""

from __future__ import annotations

from verdiff.files.atomic import atomic_path, full_suffix
from verdiff.files.marks import made_by_verdiff, mark_file
from verdiff.files.places import require_folder
from verdiff.files.plan import Plan, plan_files
from verdiff.files.scratch import scratch_folder
from verdiff.files.staging import Staging

__all__ = [
    "Plan",
    "Staging",
    "atomic_path",
    "full_suffix",
    "made_by_verdiff",
    "mark_file",
    "plan_files",
    "require_folder",
    "scratch_folder",
]
