"""``verdiff export``: a training run or a bundle in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import (
    MODEL_NAME,
    VERSION,
)
from verdiff.commands.options import (
    ExpectSha256,
    Overwrite,
    TrustedKey,
    unfit,
    written_as,
)
from verdiff.commands.printing import say
from verdiff.commands.progress import busy

DECIDED = r"[^=,]+=0?\.\d+(,[^=,]+=0?\.\d+)*"


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
    scans: Annotated[
        Path | None, typer.Option(help="Folder of scans of six patients or more, to judge the precision on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="An nnU-Net raw data set: measure Dice against time on it, into the manifest.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Fold of --data whose validation cases are scored; by default 0.")
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="With --data: score every n-th slice; by default every one.")
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            callback=written_as(VERSION, "a semantic version, such as 1.0.0"),
            help="Semantic version of the new bundle; by default the source's.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            callback=written_as(MODEL_NAME, "lower-case letters, digits, '.', '_' and '-'"),
            help="With a run: the model's name; by default that of the run's folder.",
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="With a run: JSON with what no run knows: licence, metrics, intended use.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="With a run: its checkpoint; by default best.pt.")] = None,
    decide: Annotated[
        str | None,
        typer.Option(
            callback=written_as(DECIDED, "NAME=P,NAME=P, such as disc=0.4"),
            help="With a run: NAME=P,NAME=P: the probability from which on a pixel is a structure's.",
        ),
    ] = None,
    full_weights: Annotated[
        bool, typer.Option("--float32-weights", help="With a run: do not store weights as float16.")
    ] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Build TensorRT engines of it too, as 'verdiff build' does.")
    ] = False,
    invariant: Annotated[
        bool,
        typer.Option(
            "--invariant", help="With a run: refuse it if margins, field of view or grey units move its mask."
        ),
    ] = False,
    overwrite: Overwrite = False,
    expect_sha256: ExpectSha256 = None,
    trusted_key: TrustedKey = None,
) -> None:
    """Export a training run as a verified bundle, or add a precision to a bundle; the default model by default."""
    if data is None and (fold is not None or every is not None):
        raise unfit("--fold and --every say what of --data is scored", "name a data set with --data, or leave them out")
    from verdiff.commands.requirements import require

    require("export", ("onnx", "onnxruntime"), "cpu,export")
    from verdiff.export.exporting import ExportOptions, run

    forms = {} if int8 else {"int8-ov": int8_ov, "int8-trt": int8_trt}
    asked = {"fp16": fp16, "bf16": bf16, "int8": int8, **forms}
    options = ExportOptions(
        output,
        tuple(name for name in asked if asked[name]),
        scans,
        card,
        weights,
        half_weights=not full_weights,
        data=data,
        fold=fold,
        every=every,
        release=release,
        engine=engine,
        name=name,
        decide=_decided(decide),
        invariant=invariant,
        overwrite=overwrite,
        expect_sha256=expect_sha256,
        trusted_key=trusted_key,
    )
    with busy("exporting"):
        written = run(source, options, say=say)
    if engine:
        from verdiff.commands.build import build_each

        build_each(written, options.precisions, say=say)


def _decided(text: str | None) -> dict[str, float]:
    """The probabilities of ``--decide``."""
    pairs = [pair.split("=") for pair in text.split(",")] if text else []
    return {name.strip(): float(probability) for name, probability in pairs}
