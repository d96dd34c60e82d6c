"""What the study ``endurance`` found: a row for each tenth of the requests, and a picture of time, memory and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verdiff.markdown import markdown_table


def markdown_page(results: Mapping[str, Any]) -> str:
    """One row a tenth."""
    entrances = list(results["tenths"][0]["median_s"])
    titles = ["requests", *(f"{name}: median; p95" for name in entrances), "processor time"]
    titles += ["server", "worker", "descriptors", "threads"]
    rows = []
    for row in results["tenths"]:
        times = [f"{row['median_s'][name]:.2f} s; {row['p95_s'][name]:.2f} s" for name in entrances]
        memory = [f"{row[f'{process}_mib']:.0f} MiB" for process in ("server", "worker")]
        counts = [f"{row[f'server_{what}']} + {row[f'worker_{what}']}" for what in ("files", "threads")]
        processor = f"{row['processor_s_a_request']:.3f} s"
        rows.append((f"to {row['upto']}", *times, processor, *memory, *counts))
    return "\n".join(
        [
            *markdown_table(titles, rows),
            "",
            f"{results['requests']} requests gave {results['different_masks']} different masks of the one scan. "
            f"Descriptors and threads are the server's and the worker's. The server ended with {results['exit_code']}.",
        ]
    )


def draw_endurance(results: Mapping[str, Any], path: Path) -> None:
    """Median time of a request above, memory in the middle, descriptors below.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    times, memory, files = figure.subplots(3, sharex=True)
    tenths, looks = results["tenths"], results["looks"]
    for name in tenths[0]["median_s"]:
        times.plot([row["upto"] for row in tenths], [row["median_s"][name] for row in tenths], "o-", label=name)
    times.plot(
        [row["upto"] for row in tenths], [row["processor_s_a_request"] for row in tenths], "s--", label="processor"
    )
    requests = [look["request"] for look in looks]
    for process in ("server", "worker"):
        memory.plot(requests, [look[f"{process}_mib"] for look in looks], label=process)
        files.plot(requests, [look[f"{process}_files"] for look in looks], label=process)
    times.set(ylabel="s a request, median of a tenth", title="Series in a row to verdiff serve", ylim=(0, None))
    memory.set(ylabel="resident MiB", ylim=(0, None))
    files.set(ylabel="descriptors", xlabel="request", ylim=(0, None))
    for axes in (times, memory, files):
        axes.grid(alpha=0.3)
        axes.legend(loc="center right")
    figure.savefig(path, dpi=120, format="png")
