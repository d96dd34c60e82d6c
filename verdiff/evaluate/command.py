"""The command ``verdiff evaluate`` without its parsing: score two folders, write the tables, compare two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verdiff import __version__
from verdiff.errors import DataError, OutputError
from verdiff.evaluate.cases import Pair, load_pair, pair_cases, validation_cases
from verdiff.evaluate.empty import METRICS, POLICIES
from verdiff.evaluate.labels import LabelSource, label_table
from verdiff.evaluate.metrics import CaseScores, score_case
from verdiff.evaluate.statistics import Comparison, compare
from verdiff.evaluate.tables import MEAN, Table, to_csv, to_json, to_markdown
from verdiff.imaging.atomic import atomic_path

Comparisons = dict[str, dict[str, Comparison]]


@dataclass(frozen=True)
class Evaluation:
    """What ``verdiff evaluate`` found.

    Attributes:
        table: The scores of the predictions.
        comparisons: Structure -> metric -> comparison with the other model; empty when none was given.
        markdown: The report to print.
        written: The files that were written.
    """

    table: Table
    comparisons: Comparisons
    markdown: str
    written: tuple[Path, ...]


def evaluate_folders(
    predictions: Path,
    references: Path,
    labels: Mapping[str, int],
    *,
    cases: Iterable[str] | None = None,
    policy: str = "strict",
    distances: bool = True,
    on_case: Callable[[str, Mapping[str, CaseScores]], None] | None = None,
) -> Table:
    """Score every case of two folders (or of two files).

    Args:
        predictions: Folder of predicted masks, or one file.
        references: Folder of reference masks, or one file.
        labels: Name -> id of each structure.
        cases: The cases to score; None scores all and wants the folders to hold the same ones.
        policy: A key of :data:`verdiff.evaluate.empty.POLICIES`.
        distances: False scores Dice and IoU alone.
        on_case: Called after each case, for a progress bar.

    Raises:
        DataError: A mask is missing, grids differ, or the policy is unknown.
        InputError: A file cannot be read, or holds anything but label ids.
    """
    if policy not in POLICIES:
        raise DataError(f"policy {policy!r}", "one of " + ", ".join(POLICIES), "choose one of these policies")
    scores: dict[str, dict[str, CaseScores]] = {}
    notes: list[str] = []
    for pair in pair_cases(predictions, references, cases):
        scores[pair.case], unscored = _score(pair, labels, policy=policy, distances=distances)
        notes += unscored
        if on_case is not None:
            on_case(pair.case, scores[pair.case])
    metrics = tuple(name for name, metric in METRICS.items() if distances or metric.higher_is_better)
    return Table(scores, metrics, tuple(notes))


def run(
    predictions: str | Path,
    references: str | Path,
    labels: LabelSource = None,
    output: str | Path | None = None,
    *,
    cases: Iterable[str] | None = None,
    splits: str | Path | None = None,
    fold: int = 0,
    compare_with: str | Path | None = None,
    policy: str = "strict",
    distances: bool = True,
    on_case: Callable[[str, Mapping[str, CaseScores]], None] | None = None,
) -> Evaluation:
    """Score predictions against references and write the tables.

    Args:
        predictions: Folder of predicted masks, or one file.
        references: Folder of reference masks, or one file.
        labels: See :func:`verdiff.evaluate.labels.label_table`.
        output: A folder for ``scores.csv``, ``scores.json`` and ``scores.md``; or one file ending so; None: no file.
        cases: The cases to score.
        splits: A ``splits_final.json``, whose fold names the cases to score instead.
        fold: The fold of ``splits``, from 0.
        compare_with: Masks of another model for the same cases; each difference is ``predictions`` minus these.
        policy: A key of :data:`verdiff.evaluate.empty.POLICIES`.
        distances: False scores Dice and IoU alone.
        on_case: Called after each case, for a progress bar.

    Raises:
        DataError: As :func:`evaluate_folders`; also when both ``cases`` and ``splits`` are given.
        InputError: A file cannot be read.
        OutputError: The tables cannot be written.
    """
    targets = _targets(output)
    if splits is not None:
        if cases is not None:
            raise DataError("both a list of cases and a fold", "one of the two", "leave one of them out")
        cases = validation_cases(Path(splits), fold)
    chosen = None if cases is None else list(cases)
    table_of_labels = label_table(labels, Path(references))

    def scored(folder: str | Path) -> Table:
        return evaluate_folders(
            Path(folder),
            Path(references),
            table_of_labels,
            cases=chosen,
            policy=policy,
            distances=distances,
            on_case=on_case,
        )

    table = scored(predictions)
    comparisons = {} if compare_with is None else compare_tables(table, scored(compare_with))
    markdown = to_markdown(table) + comparison_markdown(comparisons)
    more: dict[str, Any] = {"verdiff": __version__, "labels": table_of_labels, "policy": policy}
    if comparisons:
        more["comparison"] = {
            name: {metric: asdict(one) for metric, one in row.items()} for name, row in comparisons.items()
        }
    renderers = {".csv": lambda: to_csv(table), ".json": lambda: to_json(table, **more), ".md": lambda: markdown}
    for target in targets:
        with atomic_path(target) as temporary:
            temporary.write_text(renderers[target.suffix](), encoding="utf-8")
    return Evaluation(table, comparisons, markdown, targets)


def compare_tables(first: Table, second: Table) -> Comparisons:
    """Compare two models case by case, for each structure and the mean; cases undefined for either are left out.

    Raises:
        DataError: The tables are not of the same cases and structures.
    """
    if first.scores.keys() != second.scores.keys() or first.structures != second.structures:
        raise DataError(
            f"cases {sorted(first.scores)} against {sorted(second.scores)}",
            "the same cases and structures from both models",
            "score both models on the same cases",
        )
    comparisons: Comparisons = {}
    for name in (*first.structures, MEAN):
        comparisons[name] = {}
        for metric in first.metrics:
            left, right = first.by_case(name, metric), second.by_case(name, metric)
            shared = [case for case in left if not math.isnan(left[case] + right[case])]
            if shared:
                comparisons[name][metric] = compare([left[c] for c in shared], [right[c] for c in shared])
    return comparisons


def comparison_markdown(comparisons: Comparisons) -> str:
    """The comparison as a Markdown table; empty for no comparison."""
    if not comparisons:
        return ""
    lines = [
        "",
        "Difference to the other model (95 % bootstrap interval over cases), cases better or worse, Wilcoxon's p:",
        "",
        "| structure | metric | difference | interval | better / worse | p |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in comparisons.items():
        for metric, one in row.items():
            sides = (one.better, one.worse) if METRICS[metric].higher_is_better else (one.worse, one.better)
            gap = one.difference
            lines.append(
                f"| {name} | {METRICS[metric].title} | {gap.mean:+.4f} | {gap.low:+.4f} to {gap.high:+.4f} "
                f"| {sides[0]} / {sides[1]} | {one.p_value:.3g} |"
            )
    return "\n".join(lines) + "\n"


def _score(
    pair: Pair, labels: Mapping[str, int], *, policy: str, distances: bool
) -> tuple[dict[str, CaseScores], list[str]]:
    loaded = load_pair(pair)
    scores = score_case(
        loaded.prediction,
        loaded.reference,
        spacing_mm=loaded.spacing_mm,
        label_ids=labels,
        policy=POLICIES[policy],
        distances=distances,
    )
    notes = []
    for name, mask in (("prediction", loaded.prediction), ("reference", loaded.reference)):
        others = sorted(set(np.unique(mask).tolist()) - {0, *labels.values()})
        if others:
            notes.append(f"{pair.case}: the {name} also holds label ids {others}, which were not scored.")
    return scores, notes


def _targets(output: str | Path | None) -> tuple[Path, ...]:
    if output is None:
        return ()
    path = Path(output)
    if path.suffix in (".csv", ".json", ".md") and not path.is_dir():
        return (path,)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror}", "a folder that can be written", "choose another output"
        ) from error
    return tuple(path / f"scores{suffix}" for suffix in (".csv", ".json", ".md"))
