"""``verdiff export``: a training run or a bundle in, a verified bundle out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import takes_options, unfit
from verdiff.commands.printing import say
from verdiff.commands.progress import busy
from verdiff.options import ExportOptions


@takes_options
def export(
    source: Annotated[
        str | None, typer.Argument(help="The folder of a training run, a bundle, or a shipped model's name.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The bundle: NAME.verdiff is one file, else a folder. By default MODEL-fp16.verdiff or the like.",
        ),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add FP16 graphs that passed the gate.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Add BF16 graphs, for TensorRT.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add INT8 graphs, calibrated on --scans.")] = False,
    int8_ov: Annotated[bool, typer.Option("--int8-ov", help="Add only the INT8 graphs for processors.")] = False,
    int8_trt: Annotated[bool, typer.Option("--int8-trt", help="Add only the INT8 graphs for TensorRT.")] = False,
    *,
    options: ExportOptions,
) -> None:
    """Export a training run as a verified bundle, or add a precision to a bundle; the default model by default."""
    if options.data is None and (options.fold is not None or options.every is not None):
        raise unfit("--fold and --every say what of --data is scored", "name a data set with --data, or leave them out")
    from verdiff.commands.requirements import require

    require("export", ("onnx", "onnxruntime"), "cpu,export")
    from verdiff.export.exporting import run

    forms = {} if int8 else {"int8-ov": int8_ov, "int8-trt": int8_trt}
    asked = {"fp16": fp16, "bf16": bf16, "int8": int8, **forms}
    options = replace(options, output=output, precisions=tuple(name for name in asked if asked[name]))
    with busy("exporting"):
        written = run(source, options, say=say)
    if options.engine:
        from verdiff.commands.build import build_each

        build_each(written, options.precisions, say=say)
