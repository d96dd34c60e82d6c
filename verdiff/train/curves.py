"""A run's metrics as CSV rows and its training curves as a PNG."""

from __future__ import annotations

import csv
from pathlib import Path


def append_metrics(path: Path, row: dict[str, float]) -> None:
    """Add a row; a resumed run drops rows at or past its iteration first, so none stands twice."""
    rows = [old for old in read_metrics(path) if old["iteration"] < row["iteration"]]
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerows([*rows, row])
    temporary.replace(path)


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
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
