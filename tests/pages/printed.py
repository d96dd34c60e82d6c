"""The commands that the pages print, and how each is run where it cannot be run as it stands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from verdiff.errors import EMPTY_MASK, SUCCESS, BackendError, VerdiffError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("", "sh", "bash", "shell", "console")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("verdiff", "make", "pip", "python")
STUDIES = "python -m studies "
# Its steps follow from one another: tests/pages/test_tutorial.py runs them in one folder.
TUTORIAL = "docs/tutorial.md"


@dataclass(frozen=True)
class How:
    """How a printed command is run in a test, where that is not as it stands in an empty folder.

    Attributes:
        why: What keeps it from being run as printed; ``""`` if nothing does.
        add: Words after the printed ones.
        codes: Exit codes that are right.
        without: What must not be there yet; a file that ``-o`` names never is.
        tested_by: Where the rest is tested: the command is parsed, and not run.
    """

    why: str = ""
    add: str = ""
    codes: tuple[int, ...] = (SUCCESS,)
    without: tuple[str, ...] = ()
    tested_by: str = ""


_HOURS = "it trains for its minutes: one iteration of narrow networks on small crops goes the same way"
_GPU = "it needs a GPU; without one it says so by name"
_BENCH = "it takes minutes to hours and a labelled data set of real scans"
_NETWORK = (
    "--set 'network.prior_widths=[8, 8, 16]' --set 'network.denoiser_widths=[8, 8]' --set network.fusion_width=8 "
    "--set training.recycle=0.0"
)
_ONE_ITERATION = (
    "--set training.iterations=2 --set training.validate_every=2 --set training.validate_slices=1 "
    "--set training.batch=1"
)
_2D = How(_HOURS, f"{_ONE_ITERATION} --set 'training.crop=[128, 128]'")
_DEFAULT = How(_HOURS, f"{_ONE_ITERATION} --set 'training.crop=[32, 32]' {_NETWORK}", without=("runs/spine-mr",))
_ENGINE = How("an engine for every size and GPU takes many minutes", "--role prior --size 64x48 --batch 1 --sm 89")
_TINY = How(codes=(SUCCESS, EMPTY_MASK))


def bench(case: str) -> How:
    """A benchmark, whose own test runs it on what is small enough."""
    return How(_BENCH, tested_by=f"tests/benchmarks/{case}.py")


def study(name: str) -> How:
    """A study, whose own test runs it on what is small enough."""
    return How(_BENCH, tested_by=f"tests/studies/test_{name}.py")


_FROM = How("the default model's weights want its three structures", tested_by="tests/train/test_release_weights.py")
_JUDGED = How("six patients' scans are judged whole, several times", tested_by="tests/export/test_converting.py")
_EFFORTS = How("seven patients are segmented by every setting", tested_by="tests/export/test_frontier.py")

# By the beginning of the command, the longest that fits. What is not here is run as printed and ends with 0.
HOW: dict[str, How] = {
    "verdiff train spine-mr": _DEFAULT,
    "verdiff train spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR --prepare": How(without=("cache",)),
    "verdiff train -o runs/from-cache --resume": How(
        "it goes on with a run of an hour", tested_by="tests/train/test_run_folder.py"
    ),
    "verdiff infer --manifest cases.csv -o out --ray": How(
        "a cluster takes half a minute to start, and one of several machines is not here",
        tested_by="tests/batch/test_ray.py",
    ),
    "verdiff train unet": _2D,
    "verdiff train spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR --data $VERDIFF_DATA/Dataset106_SpineT2Slices "
    "--data $VERDIFF_DATA/Dataset107_SpineT1T2Vertebra --fold": _FROM,
    "verdiff train spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR --data $VERDIFF_DATA/Dataset106_SpineT2Slices "
    "--data $VERDIFF_DATA/Dataset107_SpineT1T2Vertebra --fold 0 --minutes 125": _DEFAULT,
    "verdiff export runs/fold0": How("the same of runs/spine-mr is run", tested_by="tests/pages/test_commands.py"),
    "verdiff export fold0.verdiff": _EFFORTS,
    "verdiff export all.verdiff --int8-ov": _JUDGED,
    "verdiff train nnunet": How(
        f"{_HOURS}; its batch and crop are planned from the data",
        "--set training.iterations=1 --set training.validate_every=1 --set training.validate_slices=1",
    ),
    "verdiff train fcn": How(
        f"{_HOURS}; the cache here was prepared for soft masks", f"{_2D.add} --set data.soft_masks=true"
    ),
    "verdiff train spinesegdiff": How(_HOURS, tested_by="tests/train/test_diffusion_systems.py"),
    "verdiff train medsegdiff": How(_HOURS, tested_by="tests/train/test_diffusion_systems.py"),
    "verdiff train safnet": How(_HOURS, tested_by="tests/train/test_trainer3d.py"),
    "verdiff train safnet --data $VERDIFF_DATA/Dataset102_SpineMR3D --prepare": How(),
    "verdiff distill": How(_HOURS, tested_by="tests/train/test_distill.py"),
    "verdiff export runs/safnet": How("it wants a run of hours", tested_by="tests/export/test_volumetric.py"),
    "verdiff export runs/spinesegdiff": How("it wants a run of hours", tested_by="tests/export/test_single_pass.py"),
    "verdiff export runs/fcn": How("it wants a run of hours", tested_by="tests/export/test_single_pass.py"),
    "verdiff export runs/unet": How("it wants a run of hours", tested_by="tests/export/test_single_pass.py"),
    "verdiff export runs/spine-mr --fp16": How(
        "an untrained run finds nothing to judge FP16 on", tested_by="tests/export/test_converting.py"
    ),
    "verdiff export runs/spine-mr --card": How(
        "the same with --weights and --scans beside it is run", tested_by="tests/pages/test_commands.py"
    ),
    "verdiff export runs/spine-mr --weights last.pt --card": How(),
    "verdiff export runs/spine-mr --weights last.pt --decide": How(
        "the run here has no canal to decide on", tested_by="tests/export/test_deciding.py"
    ),
    "verdiff export runs/spine-mr --weights blended.pt": How(
        "it wants a run that went on from the default model", tested_by="tests/train/test_release_weights.py"
    ),
    "verdiff export model.verdiff": _JUDGED,
    "verdiff export unet.verdiff": _JUDGED,
    "verdiff export spine-mr --int8-ov": _JUDGED,
    "verdiff export spine.verdiff --int8-ov": _JUDGED,
    "verdiff export spine-mr.verdiff --data": _EFFORTS,
    "verdiff export --fp16": How(without=("spine-mr-fp16.verdiff",)),
    "verdiff calibrate": How("seven patients are segmented whole", tested_by="tests/export/test_margins.py"),
    "verdiff infer scan.nii.gz --model calibrated.verdiff": How(
        "its margins are measured on seven patients", tested_by="tests/export/test_margins.py"
    ),
    "verdiff sign spine-mr.verdiff": How(without=("spine-mr.verdiff.sig",)),
    "verdiff build": _ENGINE,
    "verdiff build --list": How(),
    "verdiff infer scan.nii.gz --model fcn.verdiff": _TINY,
    "verdiff infer scan.nii.gz --model safnet.verdiff": How("the scan is cut to a few slices", "--force", _TINY.codes),
    "verdiff infer scan.nii.gz -o mask.nii.gz --model spinesegdiff.verdiff": _TINY,
    "verdiff infer scan.nii.gz --device cuda:0": How(_GPU, codes=(SUCCESS, BackendError.exit_code)),
    "verdiff infer examples/mr_t2_sample.nii.gz --policy fast --uncertainty --device webgpu:software": How(
        "a processor takes half an hour for it", tested_by="tests/runtime/test_webgpu_device.py"
    ),
    "verdiff infer scan.nii.gz --device webgpu": How(_GPU, codes=(SUCCESS, BackendError.exit_code)),
    "verdiff serve": How("it serves until it is ended", tested_by="tests/serve/igtl/test_faults.py"),
    "verdiff doctor": How(codes=(SUCCESS, VerdiffError.exit_code)),
    "verdiff evaluate OUT/": How("it wants a run of nnU-Net's own", tested_by="tests/train/test_nnunetv2_adapter.py"),
    "verdiff data convert spider": How(without=("Dataset101_SpineMR",)),
    "verdiff bench denoiser-step": bench("test_cases"),
    "verdiff bench volume": bench("test_volume"),
    "verdiff bench throughput": bench("test_throughput"),
    "verdiff bench startup": bench("test_fresh"),
    "verdiff bench deadline": bench("test_deadline"),
    "verdiff bench gpu": bench("gpu/test_case"),
    "python -m studies frontier": study("frontier"),
    "python -m studies prior-at-equal-time": study("prior_at_equal_time"),
    "python -m studies scaling": study("scaling"),
    "python -m studies endurance": study("endurance"),
    "python -m studies rivals": study("rivals"),
    "python -m studies samplers": study("samplers"),
    "python -m studies levels": study("levels"),
    "python -m studies side-by-side": study("side_by_side"),
    "python -m studies table1": study("tables"),
    "python -m studies nnunetv2": study("real_nnunet"),
    "python -m studies groups": study("discs"),
    "python -m studies ablation": study("tables"),
    "python -m studies spinesegdiff": study("tables"),
    "python -m studies safnet": study("tables"),
}


def printed_commands() -> dict[str, list[str]]:
    """Every shell command of the pages, its comment left out -> the pages that print it."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for line in shell_lines(page.read_text("utf-8")):
            if line.split()[0] in PROGRAMS:
                found.setdefault(line, []).append(page.relative_to(ROOT).as_posix())
    return found


def shell_lines(text: str) -> list[str]:
    """The lines of a page's fenced shell blocks: continuations joined, prompts and comments left out."""
    blocks = [body for language, body in FENCE.findall(text) if language in SHELL]
    lines = [line.strip().removeprefix("$ ") for line in "\n".join(blocks).replace("\\\n", " ").splitlines()]
    bare = [re.sub(r"\s#\s.*$", "", line) for line in lines if line and not line.startswith("#")]
    return [" ".join(line.split()) for line in bare]


def how(command: str) -> How:
    """How a command is run: the entry of :data:`HOW` with the longest beginning, else as printed."""
    beginnings = [beginning for beginning in HOW if command.startswith(beginning)]
    return HOW[max(beginnings, key=len)] if beginnings else How()


def words(command: str) -> list[str]:
    """The words of a command as a shell has them, but for variables."""
    return shlex.split(command, comments=True)
