"""A table's page: what was trained and how, the papers' table, box plots, and who is ahead on the same patients."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.training.folder import CACHE, CONFIGURATION, QueueEntry, TableOptions, entries_of, index_of, sittings_of
from studies.training.plans import WALL, TablePlan
from studies.training.record import RECORD, taken_from
from studies.training.record import data_of as fingerprints_of
from studies.training.table import METRICS, TableLine, against, lines_of, part, to_csv
from verdiff.benchmarks.recording import command_line
from verdiff.evaluate.comparing import Comparisons, comparison_dict, comparison_markdown
from verdiff.evaluate.markdown import format_value, papers_table, with_deviation
from verdiff.evaluate.plots import box_plots
from verdiff.evaluate.stored import STORED, to_dict
from verdiff.files import plan_files
from verdiff.markdown import markdown_table
from verdiff.page.figures import figures_page
from verdiff.train.config import DataConfig, load_config
from verdiff.train.data.cases import INDEX
from verdiff.train.data.layout import FINE_MASKS

PAGE, SHOWN, CASES, BOXES = "table.md", "table.html", "cases.csv", "boxes.png"
PICTURE = f"![Dice of every case]({BOXES})"
CENT = 100.0


def write(options: TableOptions, output: Path, groups: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """Write the page of what is scored so far; nothing where nothing is.

    Args:
        options: Options of the queue.
        output: Its folder.
        groups: Group -> cases: a table of the cases of each group alone.

    Raises:
        DataError: Runs were scored on different cases.
        OutputError: A file cannot be written, or its place is taken by one that is not verdiff's.
    """
    entries = entries_of(options, output)
    lines = lines_of(entries)
    if not lines:
        return ()
    comparisons = against(lines, options.plan.reference)
    sittings = {entry.run.name: sittings_of(entry.run) for entry in entries}
    text = markdown_page(options, output, lines, comparisons, sittings, groups)
    files = {name: output / name for name in (CASES, BOXES, PAGE, SHOWN, RECORD)}
    record = {
        "command": command(options, output),
        "options": options.stated(),
        "data": fingerprints_of(output),
        "sittings": sittings,
        "trainings": {entry.run.name: training_record(entry) for entry in entries if entry.is_scored()},
        "models": {line.name: model_record(line) for line in lines},
        "comparisons": {name: comparison_dict({"masks": found}) for name, found in comparisons.items()},
    }
    with plan_files(files, inputs={"data set": options.data}).staged() as staged:
        staged[files[CASES]].write_text(to_csv(lines), "utf-8")
        boxes = staged[files[BOXES]]
        box_plots({line.name: line.table for line in lines}, boxes, METRICS[:1])
        staged[files[PAGE]].write_text(text, "utf-8")
        staged[files[SHOWN]].write_text(
            figures_page(options.plan.title, text.replace(PICTURE, ""), boxes.read_bytes()), "utf-8"
        )
        staged[files[RECORD]].write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf-8")
    return tuple(files.values())


def markdown_page(
    options: TableOptions,
    output: Path,
    lines: Sequence[TableLine],
    comparisons: Mapping[str, Comparisons],
    sittings: Mapping[str, Sequence[Mapping[str, Any]]],
    groups: Mapping[str, Sequence[str]],
) -> str:
    """The whole page."""
    plan, cases, data = options.plan, lines[0].table.cases, data_of(options, output)
    held = lines[0].runs[0].facts["validation_cases"]
    entries = entries_of(options, output)
    done = sum(len(line.runs) for line in lines)
    page = [
        f"# {plan.title}",
        "",
        f"`{data['name']}`, fold {options.fold}: {len(cases)} of the {held} cases put aside, scored "
        f"{scored_on(DataConfig(**data['preparation']))}. {done} of {len(entries)} trainings are done.",
        "",
        f"    {command(options, output)}",
        "",
        *trained_with(options, sittings),
        "",
        *models_table(options, lines, data["preparation"]["modality"]),
        "",
        *measured_on(entries, sittings),
        "",
        "Mean ± standard deviation over cases, shares from 0 to 1, lengths in mm (of films in pixels):",
        "",
        *papers_table({line.name: {"": line.table} for line in lines}, METRICS),
        "",
        PICTURE,
    ]
    page += spreads(lines)
    for name, found in comparisons.items():
        page += ["", f"## {plan.reference} minus {name}"]
        page += comparison_markdown({"masks": found}, name).splitlines()
        page += verdict(plan, name, found)
    for group, names in groups.items():
        mine = {line.name: {"": part(line.table, names)} for line in lines}
        count = len(next(iter(mine.values()))[""].cases)
        if count:
            page += ["", f"## {group}: {count} case{'s' * (count != 1)}", "", *papers_table(mine, METRICS)]
    page += ["", "## What to know", "", *(f"- {note}" for note in notes(options))]
    return "\n".join(page) + "\n"


def scored_on(prepared: DataConfig) -> str:
    """Which pixels the masks are scored on, for cases that were prepared so."""
    if prepared.slice_spacing_mm is not None:
        lengths = (prepared.spacing_mm, prepared.spacing_mm, prepared.slice_spacing_mm)
        return f"on the prepared grid of {' x '.join(f'{mm:g}' for mm in lengths if mm is not None)} mm"
    if prepared.soft_masks:
        return f"on the pixels of their masks in `{FINE_MASKS}`, or on the scan's own where there is none"
    return "in the scan's own pixels"


def verdict(plan: TablePlan, other: str, found: Comparisons) -> list[str]:
    """Whether the reference stands for another model, where that is what the table asks: in Dice of every structure.

    A mean over structures alone may hide that one is better by as much as another is worse; one case says nothing.
    """
    rows = {name: row["dice"].comparison for name, row in found.items()}
    differences = {name: row.difference for name, row in rows.items() if row is not None}
    if plan.within is None or not differences:
        return []
    if any(math.isnan(each.low) for each in differences.values()):
        return ["", f"Of one case nothing follows on whether {plan.reference} stands for {other}."]
    name, most = max(differences.items(), key=lambda item: abs(item[1].mean))
    lies = "lies" if abs(most.mean) <= plan.within else "does not lie"
    return [
        "",
        f"**{plan.reference} {lies} within {plan.within:g} Dice of {other}**: the largest difference is that of "
        f"{name}, {most.mean:+.4f} ({most.low:+.4f} to {most.high:+.4f})."
        + ("" if lies == "lies" else f" So its figures say nothing of {other}."),
    ]


def trained_with(options: TableOptions, sittings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Budget, seeds, threads, and the machines."""
    every = [sitting for run in sittings.values() for sitting in run]
    machines = sorted({_machine(sitting["machine"]) for sitting in every})
    shares = [sitting["others"] for sitting in every if sitting["others"] is not None]
    seeds = ", ".join(str(options.seed + number) for number in range(options.seeds))
    smaller = "" if options.others == options.budget else f" ({options.others:g} where the table says so)"
    of = "minutes" if options.clock == WALL else "minutes of the processor (of each thread)"
    lines = [
        f"At most {options.budget:g} {of} of training a model{smaller}, validations included, {options.threads} "
        f"thread{'s' * (options.threads != 1)}, seed {seeds}, on {'; '.join(machines) or 'an unknown machine'}."
    ]
    if shares:
        busy = f"Other processes took {min(shares):.0%} to {max(shares):.0%} of the cores' time meanwhile"
        unequal = ", so equal minutes are not equal work: the table has the minutes of a processor that each got."
        lines.append(busy + (unequal if options.clock == WALL else ", which by this clock costs no training anything."))
    return lines


def models_table(options: TableOptions, lines: Sequence[TableLine], kind: str) -> list[str]:
    """A line a model: what it cost, its mean Dice, and the published one."""
    published = options.plan.published.get(kind, {})
    titles = ["model", "minutes", "processor minutes", "iterations", "parameters (M)", "seconds a case", "mean Dice"]
    rows = []
    for line in lines:
        facts = [run.facts for run in line.runs]
        summary = line.table.summary(line.row, "dice")
        seconds = [value for run in line.runs for value in run.seconds]
        row = [
            line.name,
            _range([fact["minutes"] for fact in facts], "{:.1f}"),
            _range([fact["processor_minutes"] for fact in facts], "{:.1f}"),
            _range([fact["iterations"] for fact in facts], "{:.0f}"),
            f"{facts[0]['parameters'] / 1e6:.2f}",
            f"{sum(seconds) / len(seconds):.2f}",
            with_deviation(summary.mean, summary.deviation, "dice"),
        ]
        if published:
            row.append(f"{published[line.name] / CENT:.4f}" if line.name in published else "none")
        rows.append(row)
    return markdown_table([*titles, *(["published"] if published else [])], rows)


def measured_on(entries: Sequence[QueueEntry], sittings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line a training: when, on which machine and at which commit, and the record that it was taken from."""
    rows = []
    for entry in entries:
        if not entry.is_scored():
            continue
        mine = sittings[entry.run.name]
        days = sorted({str(sitting["began"])[:10] for sitting in mine})
        machines = dict.fromkeys(_machine(sitting["machine"]) for sitting in mine)
        commits = dict.fromkeys(str(sitting.get("commit") or "unknown") for sitting in mine)
        record = taken_from(entry.run)
        cells = [" to ".join(dict.fromkeys([days[0], days[-1]])) if days else "unknown", "; ".join(machines)]
        rows.append([entry.run.name, *cells, ", ".join(commits), f"taken over from {record}" if record else "trained"])
    titles = ("training", "begun", "machine", "commit", "here")
    return markdown_table(titles, rows, words=titles)


def spreads(lines: Sequence[TableLine]) -> list[str]:
    """Each seed's mean Dice, and which differences are smaller than what a seed alone makes; none of one seed."""
    if all(math.isnan(line.spread) for line in lines):
        return []
    rows = [
        [line.name, *(format_value(value, "dice") for value in (line.spread, *line.seed_means))]
        for line in lines
        if not math.isnan(line.spread)
    ]
    seeds = max(len(line.runs) for line in lines)
    widest = max(line.spread for line in lines if not math.isnan(line.spread))
    titles = ["model", "spread", *(f"Dice, seed {number}" for number in range(1, seeds + 1))]
    return [
        "",
        "## Spread over the seeds",
        "",
        *markdown_table(titles, rows),
        "",
        f"A difference of mean Dice below {widest:.4f}, the widest spread, is no difference between models.",
    ]


def notes(options: TableOptions) -> tuple[str, ...]:
    """What a reader must know."""
    found = [
        "All models train from one prepared cache: the same slices, folds and pixels. Network, loss, optimiser, "
        "augmentation and sampling are each shipped configuration's own.",
        "The last averaged weights are scored; the patients who are scored chose none.",
        "Processor minutes are all that a training took, reading its data included. Seconds a case are by the wall "
        "clock, from prepared slices to the mask, networks in PyTorch; the runtime is faster.",
        "Intervals are bootstrapped over cases of one fold: they say nothing of another training set.",
        *options.plan.notes,
    ]
    if options.every > 1:
        found.insert(
            1, f"One in {options.every} of the cases put aside is scored (--every), the same ones of every model."
        )
    if options.settings:
        found.append("Set for this table: " + ", ".join(f"`{text}`" for text in options.settings) + ".")
    return tuple(found)


def command(options: TableOptions, output: Path) -> str:
    """The command that makes this table, or goes on with it."""
    given: list[tuple[str, object]] = [("--beside", path) for path in options.beside]
    given += [
        ("--fold", options.fold),
        ("--budget", f"{options.budget:g}"),
        ("--others", f"{options.others:g}"),
        ("--seeds", options.seeds),
        ("--seed", options.seed),
        ("--threads", options.threads),
        ("--clock", options.clock),
        ("--every", options.every),
        ("--models", ",".join(options.models) or None),
        *(("--set", text) for text in options.settings),
        ("--output", output.absolute().name),
    ]
    return command_line("python", "-m", "studies", options.study, options.data, options=given)


def model_record(line: TableLine) -> dict[str, Any]:
    """A model's plain values: its scores, and each training."""
    return {
        **{key: to_dict(line.table)[key] for key in ("summary", "averaged")},
        "trainings": [{**run.facts, "mean_dice": run.table.summary(line.row, "dice").mean} for run in line.runs],
        "spread": None if math.isnan(line.spread) else line.spread,
    }


def training_record(entry: QueueEntry) -> dict[str, Any]:
    """All of a training that another queue needs to take it over: see :mod:`studies.training.record`."""
    return {
        "model": entry.model.name,
        "seed": entry.seed,
        "budget_minutes": entry.minutes,
        "taken_from": taken_from(entry.run),
        "configuration": load_config(entry.run / CONFIGURATION).to_dict(),
        "scores": json.loads((entry.run / STORED).read_text("utf-8")),
    }


def data_of(options: TableOptions, output: Path) -> dict[str, Any]:
    """What the cache says of itself."""
    return index_of(options.data if (options.data / INDEX).is_file() else output / CACHE)


def _machine(machine: Mapping[str, Any]) -> str:
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    flags = [flag for flag in machine["flags"] if "bf16" in flag]
    return ", ".join([machine["gpu"] or machine["cpu"], cores, *flags[:1]])


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"
