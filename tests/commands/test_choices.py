"""Wrong choices are refused while a command line is parsed: exit code 2, the choices by name, nothing loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
import typer
import typer.main
from typer.testing import CliRunner, Result

from verdiff import choices
from verdiff.cli import app
from verdiff.diffusion import FUSIONS
from verdiff.engines import FLAVOURS
from verdiff.errors import USAGE
from verdiff.evaluate import POLICIES as ON_EMPTY
from verdiff.runtime.policy import Policy

# An option that takes any text: a name that is looked up, a path, a table written out, or numbers of its own.
FREE = {
    *("source", "model", "weights", "subset", "first", "target", "predictions", "compare_with", "cases", "output"),
    *("origin", "host"),
}

SAMPLING = [
    (("--sampler", "euler"), ("ddim", "ddpm", "dpmpp-2m")),
    (("--sampler", "DDIM"), ("ddim",)),
    (("--sampler", ""), ("ddim",)),
    (("--fusion", "median"), ("mean", "steps", "steps-published", "staple")),
    (("--policy", "quick"), ("whole", "fast", "locate", "skip", "agree")),
    (("--policy", "skip+quick"), ("whole", "fast", "locate", "skip", "agree")),
    (("--policy", "skip+"), ("locate", "skip", "agree")),
    (("--backend", "foo"), ("auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt")),
    (("--precision", "x"), ("auto", "fp32", "fp16", "bf16", "int8")),
    (("--device", "tpu"), ("cpu", "cuda", "cuda:N")),
    (("--device", "cuda:x"), ("cpu", "cuda", "cuda:N")),
    (("--samples", "1001"), ("1000",)),
    (("--budget-ms", "nan"), ("above 0",)),
    (("--budget-ms", "0"), ("above 0",)),
    (("--budget-ms", "-5"), ("above 0",)),
]
WRONG = [
    *((("infer", "scan.nii.gz", *wrong), named) for wrong, named in SAMPLING),
    *((("evaluate", "masks", "refs", *wrong), named) for wrong, named in SAMPLING),
    (("infer", ""), ("empty argument",)),
    (("infer", "scan.nii.gz", "-o", ""), ("empty argument",)),
    (("infer", "scan.nii.gz", "--output="), ("empty argument",)),
    # A flag takes no value, so what follows it is an argument.
    (("infer", "--preview", ""), ("empty argument",)),
    (("infer", "-qv", ""), ("empty argument",)),
    (("infer", "--model=spine-mr", ""), ("empty argument",)),
    (("data", "convert", "--dry-run", ""), ("empty argument",)),
    (("evaluate", "masks", ""), ("empty argument",)),
    (("infer", "scan.nii.gz", "--stats", "--lowest", "L9"), ("C1 to C7", "L1 to L5")),
    (("evaluate", "masks", "refs", "--on-empty", "lenient"), ("strict", "leave-absent-out")),
    (("evaluate", "masks", "refs", "--instances", "vertebra"), ("vertebrae", "ids", "components")),
    (("compare", "a=b", "--metrics", "dice,jaccard"), ("dice", "iou", "hd95_mm")),
    (("train", "unet", "--data", "d", "-o", "r", "--fold", "-1"), ("'all'",)),
    (("train", "unet", "--data", "d", "-o", "r", "--patients", "("), ("regular expression",)),
    (("train", "spinemr", "--data", "d", "-o", "r"), ("spine-mr", "verdiff-net-paper", "TOML")),
    (("train", "missing.toml", "--data", "d", "-o", "r"), ("unet3d", "TOML file that is there")),
    (("train", "--data", "d", "-o", "r"), ("CONFIG",)),
    (("train", "unet", "--data", "d:0", "-o", "r"), ("FOLDER:WEIGHT", "above 0")),
    (("train", "unet", "--data", "d", "--data", "e:nan", "-o", "r"), ("FOLDER:WEIGHT",)),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "batch=2"), ("TABLE.KEY=VALUE",)),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "training.batch"), ("TABLE.KEY=VALUE",)),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "training.bach=2"), ("training.bach=2", "batch", "crop")),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "train.batch=2"), ("train.batch=2", "training", "network")),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "network.width=[8]"), ("network.width", "widths")),
    (("train", "unet", "--data", "d", "-o", "r", "--set", "training.optimizer=lion"), ("adam", "sgd")),
    (("train", "unet", "--data", "d", "-o", "r", "--minutes", "nan"), ("--minutes",)),
    (("infer", "scan.nii.gz", "--lowest", "L5"), ("--instances", "--stats", "--mesh")),
    (("evaluate", "masks", "refs", "--labels", "vertebra"), ("name=id",)),
    (("evaluate", "masks", "refs", "--labels", "vertebra=0"), ("above 0",)),
    (("evaluate", "masks", "refs", "--instances", "vertebra=5-1"), ("ids from 1",)),
    (("evaluate", "masks", "refs", "--instances", "vertebra=1-5,disc=5-9"), ("share ids",)),
    (("evaluate", "masks", "refs", "--instances", "vertebra=1-999999999999"), ("ids from 1 to 65535",)),
    (("evaluate", "masks", "refs", "--cases", "a", "--fold", "0"), ("--cases",)),
    (("evaluate", "no-such-masks", "refs", "--masks", "kept"), ("--masks", "bundle")),
    (("compare", "=a"), ("MODEL=PATH",)),
    (("compare", "a=b", "a=c"), ("MODEL=PATH", "twice")),
    (("export", "run", "--release", "1.0"), ("semantic version",)),
    (("export", "run", "--every", "2"), ("--data",)),
    (("data", "check", "d", "--patients", "["), ("regular expression",)),
    (("export", "run", "--name", "My Model"), ("lower-case letters",)),
    (("build", "--precision", "fp8"), ("fp32", "fp16", "bf16", "int8")),
    (("build", "--flavour", "trt"), ("auto", "tensorrt", "tensorrt-rtx")),
    (("build", "--role", "denoiser"), ("prior", "step", "pipeline")),
    (("build", "--size", "320"), ("ROWSxCOLUMNS", "320x256")),
    (("build", "--sm", "8.9"), ("compute capability", "89")),
    (("build", "--device", "cpu"), ("cuda", "cuda:N")),
    (("data", "convert", "kits", "a", "b"), ("spider", "verse")),
    (("data", "convert", "spider", "a", "b", "--labels", "all"), ("structures", "levels")),
    (("data", "convert", "spider", "a", "b", "--contrasts", "t1,t3"), ("t1", "t2", "t2_SPACE")),
    (("bench", "speed"), ("volume", "throughput", "startup")),
    (("bench", "gpu", "--device", "cpu"), ("cuda:N",)),
    (("bench", "volume"), ("--scan",)),
    (("bench", "throughput"), ("--data or --scan",)),
    (("bench", "volume", "one.json", "two.json"), ("compare",)),
    (("bench", "compare", "one.json"), ("BEFORE.json AFTER.json",)),
    (("doctor", "--device", "gpu"), ("cpu", "cuda", "cuda:N")),
    (("serve", "--dicom", "0", "--ae-title", "back\\slash"), ("AE title",)),
    (("serve", "--dicom", "0", "--allow", "MUCH_TOO_LONG_A_TITLE"), ("AE title",)),
    (("serve", "--dicom", "0", "--send-to", "127.0.0.1:104"), ("TITLE@HOST:PORT",)),
    (("serve", "--dicom", "0", "--stow", "pacs/dicom-web"), ("DICOMweb address",)),
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_a_wrong_choice_ends_with_two_and_names_the_choices(arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == USAGE, result.output
    assert [name for name in named if name not in result.stderr] == []


@pytest.mark.parametrize(
    "arguments",
    [("infer", "no-such-scan.nii.gz", "--sampler", "euler"), ("train", "spinemr", "--data", "d", "-o", "r")],
)
def test_a_wrong_choice_is_refused_before_a_library_is_loaded(arguments: tuple[str, ...]) -> None:
    heavy = ("numpy", "SimpleITK", "onnxruntime", "openvino", "torch", "verdiff.runtime")
    code = (
        "import sys\nfrom verdiff.cli import main\n"
        f"sys.argv = {['verdiff', *arguments]}\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    print(end.code, [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"


@pytest.mark.parametrize(
    "options",
    [
        ("--sampler", "ddpm", "--fusion", "staple", "--policy", "agree+skip"),
        ("--policy", "fast", "--backend", "openvino", "--precision", "auto"),
        ("--policy", "whole", "--device", "cuda:11", "--precision", "int8-trt", "--budget-ms", "0.5"),
        ("--stats", "--lowest", "t13"),
    ],
)
def test_every_right_choice_gets_past_the_parser(options: tuple[str, ...]) -> None:
    group = typer.main.get_command(app)
    group.commands["infer"].make_context("infer", ["scan.nii.gz", *options])  # type: ignore[attr-defined]


def text_options(program: typer.Typer) -> Iterator[tuple[str, str, Any]]:
    """Command, name and typer's record of every option and argument that is text."""
    for group in program.registered_groups:
        yield from text_options(group.typer_instance)  # type: ignore[arg-type]
    for command in program.registered_commands:
        function = command.callback
        assert function is not None
        for name, annotation in get_type_hints(function, include_extras=True).items():
            bare, *records = get_args(annotation) or (annotation,)
            if records and str(bare) in ("<class 'str'>", "str | None", "list[str]", "list[str] | None"):
                yield function.__name__, name, records[0]


def test_every_option_that_takes_text_is_checked_while_parsing_or_known_to_be_free() -> None:
    options = list(text_options(app))
    assert len(options) > 20
    assert [f"{command}: {name}" for command, name, record in options if not record.callback and name not in FREE] == []


def test_the_choices_of_the_command_line_are_those_of_the_rooms() -> None:
    from verdiff.benchmarks.cases import CASES
    from verdiff.train.config import shipped_configs
    from verdiff.train.data.convert import CONVERTERS
    from verdiff.train.data.convert.conversion import Labels
    from verdiff.train.data.convert.spider import CONTRASTS

    assert (*FUSIONS, "staple") == choices.FUSIONS
    assert tuple(each.name for each in fields(Policy)) == choices.POLICIES
    assert tuple(ON_EMPTY) == choices.ON_EMPTY
    assert tuple(flavour.option for flavour in FLAVOURS.values()) == choices.ENGINE_BACKENDS
    assert tuple(CASES) == choices.BENCH_CASES
    assert tuple(CONVERTERS) == choices.DATA_SETS
    assert get_args(Labels) == choices.DATA_LABELS
    assert tuple(CONTRASTS) == choices.CONTRASTS
    assert set(shipped_configs()) == set(choices.CONFIGURATIONS)


def test_every_case_of_bench_that_needs_an_option_says_so_while_parsing() -> None:
    from verdiff.benchmarks.cases import CASES, Options, run_case
    from verdiff.errors import InputError

    assert set(choices.BENCH_NEEDS) <= set(CASES)
    for case in choices.BENCH_NEEDS:
        with pytest.raises(InputError, match=r"no scan|no data set"):
            run_case(case, Options())
