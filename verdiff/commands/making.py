"""Parsing of the commands that make models: train, distill, export, build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import (
    AUTO,
    ENGINE_BACKENDS,
    ENGINE_PRECISIONS,
    ENGINE_ROLES,
    GPU,
    MODEL_NAME,
    PRECISIONS,
    SETTING,
    SIZE,
    SM,
    VERSION,
)
from verdiff.commands import printing
from verdiff.commands.options import (
    ExpectSha256,
    Orientation,
    Overwrite,
    Patients,
    Threads,
    TrustedKey,
    configuration,
    fold_or_all,
    metavar,
    one_of,
    unfit,
    weighted,
    written_as,
)
from verdiff.commands.printing import say

_PRECISIONS = (*PRECISIONS, *(each for each in ENGINE_PRECISIONS if each not in PRECISIONS))
_FLAVOURS = (AUTO, *ENGINE_BACKENDS)


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder; with --prepare the cache's folder.")
    ],
    config: Annotated[
        str | None,
        typer.Argument(
            callback=configuration,
            help="A shipped configuration's name ('verdiff models') or a TOML file; --resume knows its own.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            callback=weighted,
            help="An nnU-Net raw data set, or a cache written by --prepare; repeatable, and FOLDER:WEIGHT "
            "draws its patients more or less often; --resume knows its own.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            callback=fold_or_all, help="Fold that validates; 0. 'all' trains on every case and puts none aside."
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Make so many folds by patient instead of the data set's own.")
    ] = None,
    patients: Patients = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Wall-clock budget.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            callback=written_as(SETTING, "TABLE.KEY=VALUE, such as training.batch=2"),
            help="TABLE.KEY=VALUE in place of the configuration's; repeatable.",
        ),
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the data set as an .npz cache.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUTPUT, as it was started; --minutes may extend it.")
    ] = False,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="A run, a bundle or a shipped model of the same network: its weights come first."),
    ] = None,
    nnunetv2: Annotated[
        bool, typer.Option("--nnunetv2", help="With nnunet: run the real nnunetv2 planner and trainer on this fold.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, batches and augmentation.")] = None,
    threads: Threads = None,
    orientation: Orientation = None,
) -> None:
    """Train a model, or prepare its data."""
    if (config is None or not data) and not (resume and not nnunetv2):
        raise typer.BadParameter("CONFIG and --data say what is trained on what; only --resume knows them itself")
    from verdiff.commands.requirements import require

    require("train", ("torch", "onnx"), "train")
    from verdiff.train import command
    from verdiff.train.data.cases import ALL
    from verdiff.train.data.joining import Source

    sources = [Source.parse(text) for text in data or ()]
    settings = [*(setting or ()), *([f'data.orientation="{orientation}"'] if orientation else ())]
    number = _fold_number(fold)
    if nnunetv2:
        given = {
            "--prepare": prepare, "--minutes": minutes, "--set": setting, "--seed": seed, "--threads": threads,
            "--orientation": orientation,
            "--patients": patients, "a second --data": len(sources) > 1, "--from": origin, "--fold all": number == ALL,
        }  # fmt: skip
        refused = [name for name, value in given.items() if value is not None and value is not False]
        folder = sources[0].folder
        command.run_nnunetv2(
            config or "", folder, output, fold=number or 0, folds=folds, resume=resume, refused=refused, say=say
        )
    elif prepare:
        command.prepare(config or "", sources, output, patients=patients, settings=settings, say=say)
    else:
        command.run(
            config,
            sources,
            output,
            fold=number,
            folds=folds,
            patients=patients,
            origin=origin,
            settings=settings,
            minutes=minutes,
            seed=seed,
            threads=threads,
            resume=resume,
            say=say,
        )


def _fold_number(fold: str | None) -> int | None:
    from verdiff.train.data.cases import ALL

    if fold is None:
        return None
    return ALL if fold == "all" else int(fold)


def export(
    source: Annotated[
        str | None, typer.Argument(help="The folder of a training run, a bundle, or a shipped model's name.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The bundle: NAME.verdiff is one file, else a folder; MODEL-fp16.verdiff."),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add FP16 graphs that passed the gate.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Add BF16 graphs, for TensorRT.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add INT8 graphs, calibrated on --scans.")] = False,
    int8_ov: Annotated[bool, typer.Option("--int8-ov", help="Of these, only those for processors.")] = False,
    int8_trt: Annotated[bool, typer.Option("--int8-trt", help="Of these, only those for TensorRT.")] = False,
    scans: Annotated[
        Path | None, typer.Option(help="Folder of scans of six patients or more, to judge the precision on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="An nnU-Net raw data set: measure Dice against time on it, into the manifest.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Fold of --data whose validation cases are scored; 0.")
    ] = None,
    every: Annotated[int | None, typer.Option(min=1, help="With --data: score every n-th slice; 1.")] = None,
    release: Annotated[
        str | None,
        typer.Option(
            callback=written_as(VERSION, "a semantic version, such as 1.0.0"),
            help="Semantic version of the new bundle; the source's.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            callback=written_as(MODEL_NAME, "lower-case letters, digits, '.', '_' and '-'"),
            help="With a run: the model's name; that of the run's folder.",
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="With a run: JSON with what no run knows: licence, metrics, intended use.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="With a run: which checkpoint; best.pt.")] = None,
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
    from verdiff.export import command

    forms = {} if int8 else {"int8-ov": int8_ov, "int8-trt": int8_trt}
    asked = {"fp16": fp16, "bf16": bf16, "int8": int8, **forms}
    options = command.ExportOptions(
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
        invariant=invariant,
        overwrite=overwrite,
        expect_sha256=expect_sha256,
        trusted_key=trusted_key,
    )
    written = command.run(source, options, say=say)
    if engine:
        from verdiff.commands import build

        build.engines_of(written, options.precisions, say=say)


def build(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name or a bundle.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            callback=one_of(*_PRECISIONS),
            metavar=metavar(*_PRECISIONS),
            help="Of the engines; the bundle has it.",
        ),
    ] = "fp32",
    flavour: Annotated[
        str,
        typer.Option(
            callback=one_of(*_FLAVOURS), metavar=metavar(*_FLAVOURS), help="Which library; auto: which is installed."
        ),
    ] = AUTO,
    role: Annotated[
        list[str] | None,
        typer.Option(
            callback=one_of(*ENGINE_ROLES),
            metavar=metavar(*ENGINE_ROLES),
            help="Which engine, repeatable; what the runtime drives by default.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            callback=written_as(SIZE, "ROWSxCOLUMNS, such as 320x256"),
            help="ROWSxCOLUMNS to build for; the usual fields of view.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images of the largest call.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For TensorRT's lean runtime of the same version too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from Ampere on.")
    ] = False,
    sm: Annotated[
        list[str] | None,
        typer.Option(
            callback=written_as(SM, "a compute capability, such as 89"),
            help="TensorRT-RTX: compute capability to build for, 89.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(callback=written_as(GPU, "cuda or cuda:N"), help="cuda or cuda:N to build on.")
    ] = None,
    workspace_mb: Annotated[int | None, typer.Option(min=1, help="The most device memory a layer may take.")] = None,
    cache: Annotated[Path | None, typer.Option(help="What VERDIFF_CACHE is otherwise; the user's cache.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the engines there are, and build nothing.")] = False,
    expect_sha256: ExpectSha256 = None,
    trusted_key: TrustedKey = None,
) -> None:
    """Build TensorRT engines of a model for this machine, and prove their precision."""
    from verdiff.commands import build as command

    if show:
        printing.show("\n".join(command.listing(cache)))
        return
    from verdiff.commands.requirements import require

    require("build", ("onnx",), "tensorrt", "tensorrt-rtx")
    options = command.BuildOptions(
        model,
        precision,
        flavour,
        tuple(role or ()),
        tuple(size or ()),
        batch,
        version_compatible,
        hardware_compatible,
        tuple(sm or ()),
        device,
        workspace_mb,
        cache,
        expect_sha256,
        trusted_key,
    )
    command.run(options, say=say)


def distill(
    run: Annotated[Path, typer.Argument(help="The folder of a training run: the teacher.")],
    data: Annotated[Path, typer.Option(help="The data set it was trained on: nnU-Net raw, or a prepared cache.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The student's run.")],
    steps: Annotated[int | None, typer.Option(min=1, max=4, help="Steps of the student.")] = None,
    weights: Annotated[str, typer.Option(help="Which checkpoint of RUN is the teacher.")] = "best.pt",
    teacher_steps: Annotated[int | None, typer.Option(min=1, help="Steps of the teacher.")] = None,
    teacher_samples: Annotated[int | None, typer.Option(min=1, help="Samples of the teacher, averaged.")] = None,
    truth_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the true mask in the loss; the rest is the teacher's.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Adam's, at its highest.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Wall-clock budget of the training.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Most iterations.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Judge on every n-th slice.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUTPUT.")] = False,
    threads: Threads = None,
) -> None:
    """Train a denoiser of one to four steps from a run; exit code 13: it does not beat its teacher, and is not kept."""
    from verdiff.commands.requirements import require
    from verdiff.errors import NOT_KEPT, SUCCESS

    require("distill", ("torch", "onnx"), "train")
    from verdiff.train import distill_command as command

    options = command.DistillOptions(
        weights=weights,
        steps=steps,
        teacher_steps=teacher_steps,
        teacher_samples=teacher_samples,
        truth_weight=truth_weight,
        learning_rate=learning_rate,
        minutes=minutes,
        iterations=iterations,
        every=every,
        threads=threads,
        resume=resume,
    )
    verdict = command.run(run, data, output, options, say=say)
    raise typer.Exit(SUCCESS if verdict.kept else NOT_KEPT)
