"""``verdiff export``: a training run or a bundle in, a verified bundle out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import takes_options, unfit
from verdiff.commands.printing import say
from verdiff.commands.progress import busy
from verdiff.options import ExportOptions, TrustOptions
from verdiff.settings import option_name, options_of


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
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With a bundle: write its graphs as a model repository of Triton Inference Server instead.",
        ),
    ] = None,
    triton_version: Annotated[
        int | None, typer.Option(min=1, help="With --triton: version of the models; by default 1.")
    ] = None,
    *,
    options: ExportOptions,
) -> None:
    """Export a training run as a verified bundle, or add a precision to a bundle; the default model by default.

    With --triton a bundle's graphs are written as they are, those of --fp16 or of FP32.
    """
    if triton is not None:
        others = {"--output": output, "--bf16": bf16, "--int8": int8, "--int8-ov": int8_ov, "--int8-trt": int8_trt}
        given = [flag for flag, value in others.items() if value] + _beside_trust(options)
        if given:
            raise unfit(
                f"{', '.join(given)} with --triton, which writes a bundle's graphs as they are",
                "export the bundle first, then write its repository",
            )
        _triton(source, triton, "fp16" if fp16 else "fp32", triton_version or 1, options)
        return
    if triton_version is not None:
        raise unfit("--triton-version says what --triton writes", "name a folder with --triton, or leave it out")
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


def _beside_trust(options: ExportOptions) -> list[str]:
    """The options that were given, but for those that say which bundle is trusted."""
    trust = {each.name for each in options_of(TrustOptions)}
    return [
        option_name(each)
        for each in options_of(ExportOptions)
        if each.name not in trust and getattr(options, each.name) != each.default
    ]


def _triton(source: str | None, folder: Path, precision: str, version: int, options: TrustOptions) -> None:
    """Write the repository of a bundle and say what serves it."""
    from verdiff.commands.requirements import require

    require("export --triton", ("onnx",), "cpu,export")
    from verdiff.bundle import Trust, open_bundle, resolve_model
    from verdiff.interop.triton import serve_command, write_repository

    with busy("writing"):
        bundle = open_bundle(resolve_model(source), trust=Trust(options.sha256, options.trusted_key))
        models = write_repository(bundle, folder, precision=precision, version=version)
    megabytes = sum(len(model.graph) for model in models) / 1e6
    names = ", ".join(model.name for model in models)
    say(f"{folder}: {names}; version {version}, {precision}, {megabytes:.1f} MB")
    say(f"to serve them: {serve_command(folder)}")
