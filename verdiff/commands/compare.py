"""``verdiff compare``: earlier evaluations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import (
    Overwrite,
    a_page,
    evaluations,
    metric_names,
)
from verdiff.commands.printing import say


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            callback=evaluations,
            help="MODEL=PATH or MODEL/SET=PATH of a scores.json or its folder. The first is compared with the others.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the table and its files.")] = None,
    overwrite: Overwrite = False,
    metrics: Annotated[
        str, typer.Option(callback=metric_names, help="Columns of the table, joined by commas.")
    ] = "dice,iou",
    plots: Annotated[bool, typer.Option("--plots", help="Draw boxes.png into the output folder.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=a_page,
            metavar="FILE.html",
            help="Write a page to look at too: table, box plots, differences, the worst cases first.",
        ),
    ] = None,
) -> None:
    """Set earlier evaluations side by side: the papers' table, and whether one model is better, case by case."""
    from verdiff.evaluate import several

    result = several.run(sources, output, metrics=metrics.split(","), plots=plots, page=report, overwrite=overwrite)
    for line in result.summary:
        say(line)
    for path in result.written:
        say(f"wrote {path}")
    if not result.written:
        say("every metric, interval and remark: give -o FOLDER to write them")
