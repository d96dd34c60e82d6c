"""Scores of masks: overlap, surface distance in millimetres, what both mean on empty masks, statistics and tables.

Nothing here needs torch. The command line's entry is :func:`verdiff.evaluate.command.run`.
"""

from __future__ import annotations

from verdiff.evaluate.empty import LEAVE_ABSENT_OUT, METRICS, POLICIES, STRICT, EmptyPolicy, Meaning, Presence
from verdiff.evaluate.metrics import CaseScores, score_case
from verdiff.evaluate.statistics import Comparison, Interval, bootstrap_mean, paired_bootstrap, wilcoxon_p
from verdiff.evaluate.tables import MEAN, Summary, Table, to_csv, to_json, to_markdown

__all__ = [
    "LEAVE_ABSENT_OUT",
    "MEAN",
    "METRICS",
    "POLICIES",
    "STRICT",
    "CaseScores",
    "Comparison",
    "EmptyPolicy",
    "Interval",
    "Meaning",
    "Presence",
    "Summary",
    "Table",
    "bootstrap_mean",
    "paired_bootstrap",
    "score_case",
    "to_csv",
    "to_json",
    "to_markdown",
    "wilcoxon_p",
]
