"""Scores of masks, instances and uncertainty; what they mean on empty masks; statistics, comparisons and tables.

Nothing here needs torch. The command line's entry is :func:`verdiff.evaluate.evaluation.run`.
"""

from __future__ import annotations

from verdiff.evaluate.comparing import Compared, compare_results, compare_tables
from verdiff.evaluate.empty import LEAVE_ABSENT_OUT, METRICS, POLICIES, STRICT, EmptyPolicy, Meaning, Presence
from verdiff.evaluate.instances import InstanceGroups, InstanceScores, instance_groups, score_instances
from verdiff.evaluate.markdown import papers_table, to_markdown
from verdiff.evaluate.metrics import CaseScores, score_case
from verdiff.evaluate.statistics import Comparison, Interval, bootstrap_mean, paired_bootstrap, wilcoxon_p
from verdiff.evaluate.stored import read_results, to_csv, to_json
from verdiff.evaluate.tables import MEAN, Results, Summary, Table
from verdiff.evaluate.uncertainty import Reliability, UncertaintyScores, score_uncertainty

__all__ = [
    "LEAVE_ABSENT_OUT",
    "MEAN",
    "METRICS",
    "POLICIES",
    "STRICT",
    "CaseScores",
    "Compared",
    "Comparison",
    "EmptyPolicy",
    "InstanceGroups",
    "InstanceScores",
    "Interval",
    "Meaning",
    "Presence",
    "Reliability",
    "Results",
    "Summary",
    "Table",
    "UncertaintyScores",
    "bootstrap_mean",
    "compare_results",
    "compare_tables",
    "instance_groups",
    "paired_bootstrap",
    "papers_table",
    "read_results",
    "score_case",
    "score_instances",
    "score_uncertainty",
    "to_csv",
    "to_json",
    "to_markdown",
    "wilcoxon_p",
]
