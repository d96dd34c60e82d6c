"""Many scans through one loaded model: which they are, what is done already, and reading, running and writing at once.

It knows nothing of a command line. ``verdiff infer`` calls :func:`verdiff.batch.plan_batch` and
:func:`verdiff.batch.run_batch`, and any other program may.
"""

from __future__ import annotations

from verdiff.batch.asked import AnatomyOptions, Asked, DicomOptions
from verdiff.batch.cases import BatchCase, are_several, cases_of
from verdiff.batch.on_ray import run_on_ray
from verdiff.batch.planning import Batch, plan_batch
from verdiff.batch.rows import Row
from verdiff.batch.running import run_batch
from verdiff.batch.worker import WorkerPlan

__all__ = [
    "AnatomyOptions",
    "Asked",
    "Batch",
    "BatchCase",
    "DicomOptions",
    "Row",
    "WorkerPlan",
    "are_several",
    "cases_of",
    "plan_batch",
    "run_batch",
    "run_on_ray",
]
