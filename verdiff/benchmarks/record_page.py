"""A record as a Markdown page: rivals, stages, figures and aims, what was left out, doubts, machine."""

from __future__ import annotations

from collections.abc import Iterator

from verdiff import __version__
from verdiff.benchmarks.record import Record, met
from verdiff.benchmarks.timing import Timing
from verdiff.markdown import markdown_table

PERCENTILES = (50, 90, 99)
# The runtime's stages that are paid for every step.
LOOP_STAGES = ("noise", "loop")


def record_page(record: Record) -> str:
    """The whole page."""
    outcome = record.outcome
    lines = [f"# Benchmark: {record.case}", "", f"    {record.command}", ""]
    lines += [f"{key.replace('_', ' ')}: {value}  " for key, value in outcome.subject.items()]
    lines += ["", outcome.page] if outcome.page else []
    lines += ["", *_rivals(record), *_stages(record), *_figures(record)]
    remarks = [f"Left out: {name}: {reason}" for name, reason in outcome.left_out.items()]
    remarks += [*outcome.notes, *(f"Warning: {warning}." for warning in record.warnings())]
    lines += ["", *(f"- {remark}" for remark in remarks)] if remarks else []
    return "\n".join([*lines, "", _machine(record)]) + "\n"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def _rivals(record: Record) -> Iterator[str]:
    speedups, aims = record.speedups(), record.outcome.aims
    compared = ("times faster", "95 % interval", "aim", "met") if speedups else ()
    rows = []
    for name, timing in record.outcome.timings.items():
        cells = [_percentile(timing, percent) for percent in PERCENTILES]
        if name in speedups:
            ratio, aim = speedups[name], aims.get(name)
            cells += [f"{ratio.value:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", _aim(aim, "at least")]
            cells.append(_yes(met(ratio, aim), record.in_doubt(name)))
        elif speedups:
            cells.append("baseline")
        rows.append([name, *cells])
    yield from markdown_table(("rival", *(f"p{percent}" for percent in PERCENTILES), *compared), rows)
    repeats = {len(timing.seconds) for timing in record.outcome.timings.values()}
    yield ""
    yield (
        f"{' or '.join(str(count) for count in sorted(repeats))} repeats each. In brackets: what the percentile lies "
        "above and below, each with 99 % confidence; – where the repeats are too few to say."
    )


def _stages(record: Record) -> Iterator[str]:
    for name, stages in record.outcome.stages.items():
        whole, work = record.outcome.timings[name].median, record.outcome.work.get(name)
        networks = record.outcome.networks.get(name, {})
        slices, steps = (work.slices, work.images["denoiser"]) if work else (0, 0)
        yield from ("", f"Stages, {name}" + (f" ({slices} slices, {steps} denoiser steps):" if work else ":"), "")
        told = [(stage, timing, stage in LOOP_STAGES) for stage, timing in stages.items()]
        told += [(f"within: {network} network", timing, network == "denoiser") for network, timing in networks.items()]
        rows = []
        for stage, timing, every_step in told:
            median = timing.median
            cells = [duration(median), duration(timing.percentile(90)), f"{median / whole:.1%}"]
            if work:
                cells += [duration(median / slices), duration(median / steps) if steps and every_step else ""]
            rows.append([stage, *cells])
        yield from markdown_table(("stage", "median", "p90", "share", *(("a slice", "a step") if work else ())), rows)


def _figures(record: Record) -> Iterator[str]:
    if not record.outcome.figures:
        return
    rows = []
    for figure in record.outcome.figures:
        value = "unknown" if figure.value is None else f"{figure.value:.4g} {figure.unit}".strip()
        aim = _aim(figure.at_most, "at most") or _aim(figure.at_least, "at least")
        rows.append((figure.name, value, aim, _yes(figure.met, bool(record.warnings()))))
    yield from ("", *markdown_table(("figure", "value", "aim", "met"), rows))


def _machine(record: Record) -> str:
    machine = record.machine
    memory = "" if machine.memory_gb is None else f", {machine.memory_gb} GB"
    return (
        f"{record.date}; {machine.cpu}, {machine.cores} core(s){memory}, {machine.system}, "
        f"{' '.join(machine.flags) or 'no telling flags'}; Python {machine.python}, verdiff {__version__}, "
        + ", ".join(f"{name} {version}" for name, version in record.versions.items())
        + "."
    )


def _percentile(timing: Timing, percent: int) -> str:
    low, high = (bound if bound is None else duration(bound) for bound in timing.bounds(percent))
    return f"{duration(timing.percentile(percent))} [{low or '–'}, {high or '–'}]"


def _aim(value: float | None, word: str) -> str:
    return "" if value is None else f"{word} {value:g}"


def _yes(reached: bool | None, in_doubt: bool) -> str:
    return "" if reached is None else ("yes" if reached else "no") + (", in doubt" if in_doubt else "")
