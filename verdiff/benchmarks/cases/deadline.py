"""Deadlines: is a budget kept, what setting does it buy, and what Dice does that give?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.timing import Timing
from verdiff.errors import BudgetError, InputError
from verdiff.evaluate.fold import LabelledScan, labelled_scans
from verdiff.evaluate.metrics import score_case
from verdiff.markdown import markdown_table
from verdiff.progress import done, stage
from verdiff.runtime import Segmenter

BUDGETS_MS = (600, 800, 1000, 1500, 2000, 3000, 5000)
LATE_AIM = 0.1


@dataclass
class Budgeted:
    """What one budget gave on every scan.

    Attributes:
        seconds: Duration of each call that gave a mask.
        late: How late each was, as a share of the budget; negative when early.
        dice: Patient -> mean over structures, of the last round.
        outcomes: How often each outcome, and ``"refused"``, came.
        settings: How often each setting was chosen.
    """

    seconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    dice: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    settings: Counter[str] = field(default_factory=Counter)


def run(options: Options) -> Findings:
    """Every budget on every validation patient, in turns.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold.
        BundleError: The bundle cannot be opened.
    """
    if options.data is None:
        raise InputError("no data set", "an nnU-Net raw data set to score on", "name one with --data")
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    scans = list(labelled_scans(options.data, options.fold, modality=segmenter.manifest.modality))
    segmenter.segment(scans[0].volume, force=True)
    found: dict[int, Budgeted] = {budget: Budgeted() for budget in BUDGETS_MS}
    calls = options.repeats * len(scans) * len(found)
    with stage("timing"):
        for number in range(options.repeats):
            for place, scan in enumerate(scans):
                for turn, (budget, into) in enumerate(found.items()):
                    done(((number * len(scans) + place) * len(found) + turn) / calls)
                    _call(segmenter, scan, budget, into)
            options.say_round(number + 1)
    late = [share for each in found.values() for share in each.late]
    return Findings(
        timings={f"{budget} ms": Timing(tuple(each.seconds)) for budget, each in found.items() if each.seconds},
        baseline=None,
        subject={
            "model": f"{segmenter.manifest.model_id} {segmenter.manifest.version}",
            "data": f"{options.data.name}, validation cases of fold {options.fold}, all slices",
            "threads": options.threads,
        },
        figures=(
            Figure("the latest of all calls, as a share of its budget", max(late, default=None), "", at_most=LATE_AIM),
            Figure("calls that were late at all", float(np.mean(np.array(late) > 0)) if late else None, ""),
        ),
        notes=(
            "A duration is that of the whole call, model loaded and scan read; scans differ in their number of slices.",
            "A budget below one prior pass is refused, with the least that would do.",
        ),
        results={"budgets": {str(budget): _plain(each) for budget, each in found.items()}},
        page=_page(found),
        draw=lambda path: _draw(found, path),
    )


def _call(segmenter: Segmenter, scan: LabelledScan, budget_ms: int, into: Budgeted) -> None:
    try:
        result = segmenter.segment(scan.volume, budget_ms=budget_ms, force=True)
    except BudgetError:
        into.outcomes["refused"] += 1
        return
    total, sampling = result.timings["total"], result.provenance["sampling"]
    into.seconds.append(total)
    into.late.append(1000 * total / budget_ms - 1)
    into.outcomes[result.outcome] += 1
    into.settings[f"{sampling['steps']} x {sampling['samples']}, {sampling['policy']}"] += 1
    scores = score_case(
        result.labels,
        scan.truth,
        spacing_mm=scan.spacing_mm,
        label_ids=segmenter.manifest.label_ids,
        distances=False,
    )
    into.dice[scan.name] = float(np.mean([score.dice for score in scores.values()]))


def _plain(each: Budgeted) -> dict[str, Any]:
    return {
        "late": each.late,
        "dice": each.dice,
        "outcomes": dict(each.outcomes),
        "settings": dict(each.settings),
    }


def _page(found: Mapping[int, Budgeted]) -> str:
    titles = ("budget", "median time", "latest", "outcomes", "settings", "patients", "mean Dice")
    rows = []
    for budget, each in found.items():
        dice = f"{np.mean(list(each.dice.values())):.4f}" if each.dice else ""
        time = f"{1000 * float(np.median(each.seconds)):.0f} ms" if each.seconds else ""
        latest = f"{max(each.late):+.1%}" if each.late else ""
        counted = (_counts(each.outcomes), _counts(each.settings), str(len(each.dice)))
        rows.append((f"{budget} ms", time, latest, *counted, dice))
    return "\n".join(markdown_table(titles, rows, words=("outcomes", "settings")))


def _counts(counter: Counter[str]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in counter.most_common())


def _draw(found: Mapping[int, Budgeted], path: Path) -> None:
    """Above, the time taken against the budget; below, Dice against it, where every patient had an answer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True)
    for budget, each in found.items():
        above.plot([budget] * len(each.seconds), [1000 * s for s in each.seconds], "o", color="tab:blue", alpha=0.4)
    budgets: Sequence[int] = list(found)
    above.plot(budgets, budgets, color="k", linewidth=0.8, label="the budget")
    above.plot(budgets, [(1 + LATE_AIM) * b for b in budgets], ":", color="k", linewidth=0.8, label="10 % late")
    above.set(ylabel="ms a call took", title="Deadlines")
    patients = max((len(each.dice) for each in found.values()), default=0)
    whole = [(budget, each) for budget, each in found.items() if patients and len(each.dice) == patients]
    below.plot([b for b, _ in whole], [np.mean(list(each.dice.values())) for _, each in whole], "o-")
    below.set(xlabel="budget in ms", ylabel="mean Dice", xscale="log")
    for axes in (above, below):
        axes.grid(alpha=0.3, which="both")
    above.legend()
    figure.savefig(path, dpi=120, format="png")
