"""A run's metrics as CSV rows and its training curves as a PNG; many runs on one page.

The page is made by ``python -m verdiff.train.curves RUN... -o PICTURE``.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path

from verdiff.errors import DataError
from verdiff.files import atomic_path

METRICS = "metrics.csv"


def append_metrics(path: Path, row: dict[str, float]) -> None:
    """Add a row; a resumed run drops rows at or past its iteration first, so none stands twice."""
    rows = [old for old in read_metrics(path) if old["iteration"] < row["iteration"]]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        # A row from before the first iteration has no losses.
        writer = csv.DictWriter(file, fieldnames=list(row), restval=math.nan)
        writer.writeheader()
        writer.writerows([*rows, row])


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All rows as numbers; empty where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def plot_curves(metrics: Path, picture: Path) -> None:
    """Losses and validation Dice against iterations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x = [row["iteration"] for row in rows]
    for key in (key for key in rows[0] if key.startswith("loss_")):
        left.plot(x, [row[key] for row in rows], marker=".", label=key.removeprefix("loss_"))
    left.set(xlabel="iteration", ylabel="training loss", yscale="log")
    structures = sorted(key.removeprefix("dice_sampled_") for key in rows[0] if key.startswith("dice_sampled_"))
    for number, name in enumerate(structures):
        right.plot(x, [row[f"dice_sampled_{name}"] for row in rows], f"C{number}", label=f"{name}, sampled")
        right.plot(x, [row[f"dice_prior_{name}"] for row in rows], f"C{number}:", label=f"{name}, prior")
    best = max(row["dice_sampled"] for row in rows)
    right.set(
        xlabel="iteration", ylabel="validation Dice", ylim=(max(0.0, best - 0.25), 1.0), title=f"best mean {best:.4f}"
    )
    for axes in (left, right):
        if axes.lines:
            axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


def plot_runs(runs: Sequence[Path], picture: Path) -> None:
    """Training loss and mean validation Dice of each run against its minutes, a small chart each.

    Args:
        runs: Run folders, or files of metrics; a chart is titled by the name.
        picture: The PNG to write.

    Raises:
        DataError: A run has no metrics.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(runs))
    lines = -(-len(runs) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, run in zip(grid, runs, strict=False):
        rows = read_metrics(run / METRICS if run.is_dir() else run)
        if not rows:
            raise DataError(f"no metrics in {run}", f"a run's folder with {METRICS}, or that file", "check the path")
        minutes = [row["minutes"] for row in rows]
        losses = [key for key in rows[0] if key.startswith("loss_")]
        axes.plot(minutes, [sum(row[key] for key in losses) for row in rows], "C0.-")
        axes.set(title=f"{run.stem}: Dice {rows[-1]['dice_sampled']:.3f}")
        axes.set_xlabel("minutes")
        axes.set_ylabel("training loss", color="C0")
        right = axes.twinx()
        right.plot(minutes, [row["dice_sampled"] for row in rows], "C1.-")
        right.set(ylim=(0.0, 1.0))
        right.set_ylabel("validation Dice", color="C1")
    for axes in grid[len(runs) :]:
        axes.remove()
    figure.savefig(picture, dpi=90)


def main() -> None:
    """Put the runs that the command line names on one page."""
    parser = argparse.ArgumentParser(prog="python -m verdiff.train.curves", description=main.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or its metrics as NAME.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture")
    arguments = parser.parse_args()
    try:
        plot_runs(arguments.runs, arguments.output)
    except DataError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
