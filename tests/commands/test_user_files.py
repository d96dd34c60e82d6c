"""Commands never touch a file of a user's: whatever they may write is checked before anything is computed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from tests.command_line import verdiff
from tests.imaging.make import save_series
from tests.runtime.scans import mr_scan
from verdiff.errors import BundleError, DataError, InputError, OutputError
from verdiff.files import made_by_verdiff
from verdiff.imaging import read_labels, read_volume, write_array
from verdiff.runtime import Segmenter
from verdiff.runtime.writing import output_files

EVERYTHING = ("--uncertainty", "--preview", "--instances", "--stats", "--mesh")
# More than file systems take.
LONG = "x" * 300 + ".nii.gz"
WRITTEN = (
    "scan_seg.nii.gz",
    "scan_seg.json",
    "scan_uncertainty.nii.gz",
    "scan_preview.png",
    "scan_instances.nii.gz",
    "scan_vertebrae.json",
    "scan_vertebrae.csv",
    "scan_mesh.vtp",
    "scan_meshes/L5.stl",
)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    write_array(mr_scan().array, mr_scan(), folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(Segmenter, "load", load)


def infer(scan: Path | str, bundle: Path, *more: object) -> Result:
    return verdiff("infer", scan, "--model", bundle, "--threads", 1, "--prior-only", *more)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result: Result, folder: Path, before: dict[str, bytes], words: str) -> None:
    assert result.exit_code == OutputError.exit_code, result.output
    assert words in result.stderr
    assert contents(folder) == before


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("name", WRITTEN)
def test_infer_replaces_no_file_of_somebody_elses_under_any_name_it_writes(name: str, scan: Path, bundle: Path) -> None:
    (scan.parent / name).parent.mkdir(exist_ok=True)
    (scan.parent / name).write_bytes(b"an expert's work")
    before = contents(scan.parent)
    refused(infer(scan, bundle, *EVERYTHING), scan.parent, before, name)


def test_infer_replaces_what_it_wrote_and_a_file_that_was_changed_since_is_the_users(scan: Path, bundle: Path) -> None:
    assert infer(scan, bundle, *EVERYTHING).exit_code == 0
    written = set(contents(scan.parent)) - {"scan.nii.gz"}
    assert set(WRITTEN[:-1]) <= written and any(name.startswith("scan_meshes/") for name in written)
    assert all(made_by_verdiff(scan.parent / name) for name in written)
    assert infer(scan, bundle, *EVERYTHING, "--force").exit_code == 0
    mask = scan.with_name("scan_seg.nii.gz")
    corrected, volume = read_labels(mask), read_volume(scan)
    corrected.array[0, 0, 0] = 2
    write_array(corrected.array, volume, mask)
    refused(infer(scan, bundle, *EVERYTHING), scan.parent, contents(scan.parent), "scan_seg.nii.gz")


def test_infer_replaces_a_users_file_if_he_says_so(scan: Path, bundle: Path) -> None:
    scan.with_name("scan_seg.json").write_text("mine", "utf-8")
    assert infer(scan, bundle, "--overwrite").exit_code == 0
    assert json.loads(scan.with_name("scan_seg.json").read_text("utf-8"))["outcome"] == "prior"


@pytest.mark.usefixtures("nothing_computed")
def test_infer_never_writes_to_what_it_reads_or_to_a_sidecar_of_the_scan(scan: Path, bundle: Path) -> None:
    reference = scan.with_name("expert.nii.gz")
    write_array(np.zeros(mr_scan().array.shape, np.uint8), mr_scan(), reference, mark=True)
    scan.with_name("scan.json").write_text('{"EchoTime": 0.1}', "utf-8")
    os.link(scan, scan.with_name("other.nii.gz"))
    before = contents(scan.parent)
    for output, words in (
        ("scan.nii.gz", "is the scan itself"),
        ("other.nii.gz", "is the scan itself"),
        ("expert.nii.gz", "is the reference itself"),
        ("scan.nrrd", "the JSON of scan.nii.gz"),
    ):
        result = infer(scan, bundle, "--reference", reference, "--overwrite", "-o", scan.with_name(output))
        refused(result, scan.parent, before, words)


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("mask.png", "5 slices"),
        ("mask.jpeg", "an output named mask.jpeg"),
        ("new/mask.nii.gz", "there is no folder"),
        (".nii.gz", "an output named .nii.gz"),
        ("m" * 250 + ".nii.gz", "257 bytes"),
        ("scan.nii.gz/mask.nii.gz", "scan.nii.gz"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    output: str, words: str, scan: Path, bundle: Path
) -> None:
    refused(infer(scan, bundle, "-o", scan.parent / output), scan.parent, contents(scan.parent), words)


@pytest.mark.usefixtures("nothing_computed")
def test_a_pipe_in_the_place_of_a_mask_is_not_waited_for(scan: Path, bundle: Path) -> None:
    os.mkfifo(scan.with_name("mask.nii.gz"))
    result = infer(scan, bundle, "--overwrite", "-o", scan.with_name("mask.nii.gz"))
    refused(result, scan.parent, contents(scan.parent), "is a pipe")


def test_a_folder_whose_name_ends_with_a_slash_is_made(scan: Path, bundle: Path) -> None:
    folder = scan.parent / "masks" / "today"
    assert infer(scan, bundle, "-o", f"{folder}/").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"scan_seg.nii.gz", "scan_seg.json"}
    assert f"{scan.parent / 'none'}/" in infer(scan, bundle, "-o", scan.parent / "none").stderr


def test_a_scan_that_is_refused_leaves_no_folder_behind(scan: Path, bundle: Path) -> None:
    grey = np.full(mr_scan().array.shape, 7, np.int16)
    write_array(grey, mr_scan(), scan.with_name("grey.nii.gz"))
    result = infer(scan.with_name("grey.nii.gz"), bundle, "-o", f"{scan.parent / 'masks'}/")
    assert result.exit_code == InputError.exit_code
    assert not (scan.parent / "masks").exists()


def test_a_series_named_by_a_parent_folder_gives_a_mask_of_the_folders_name(
    scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_series(scan.parent / "series", [0.0, 4.0, 8.0, 12.0, 16.0])
    (scan.parent / "series" / "sub").mkdir()
    monkeypatch.chdir(scan.parent / "series" / "sub")
    files = output_files(Path(".."))
    assert files.mask.name == "series_seg.nii.gz" and files.mask.parent.samefile(scan.parent)


def test_a_working_folder_that_is_gone_is_one_message(
    scan: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scan.parent / "gone").mkdir()
    monkeypatch.chdir(scan.parent / "gone")
    (scan.parent / "gone").rmdir()
    for words in (("../scan.nii.gz",), (scan, "-o", "mask.nii.gz")):
        refused(infer(words[0], bundle, *words[1:]), scan.parent, contents(scan.parent), "working folder is gone")
    assert infer(scan, bundle).exit_code == 0


def test_the_longest_scan_name_whose_mask_fits_is_taken(scan: Path, bundle: Path) -> None:
    longest = scan.with_name("s" * (255 - len("_seg.nii.gz")) + ".nii.gz")
    scan.rename(longest)
    assert infer(longest, bundle).exit_code == 0
    assert longest.with_name(longest.name.removesuffix(".nii.gz") + "_seg.nii.gz").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("infer", LONG), InputError.exit_code),
        (("infer", LONG, LONG), InputError.exit_code),
        (("infer", "scan.nii.gz", "--model", LONG), BundleError.exit_code),
        (("info", LONG), InputError.exit_code),
        (("evaluate", LONG, "gone"), DataError.exit_code),
        (("export", LONG), BundleError.exit_code),
        (("evaluate", ".", LONG), InputError.exit_code),
        (("compare", f"a={LONG}", f"b={LONG}"), InputError.exit_code),
        (("data", "check", LONG), InputError.exit_code),
    ],
)
def test_a_name_that_is_too_long_to_be_there_is_one_message(words: tuple[str, ...], code: int) -> None:
    result = verdiff(*words)
    assert result.exit_code == code and "found:" in result.stderr, result.output


def limited() -> None:
    """A limit on the size of files stands for a full disk: the mask fits and the uncertainty does not."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))


def ended(number: int) -> str:
    """A program that runs the command and is sent a signal in the midst of its computing."""
    return (
        "import os, signal, sys\n"
        # Whoever runs the tests in the background has them ignore these.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from verdiff.cli import main\n"
        "from verdiff.runtime import Segmenter\n"
        "segment = Segmenter.segment\n"
        "def signalled(*arguments, **options):\n"
        "    result = segment(*arguments, **options)\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    return result\n"
        "Segmenter.segment = signalled\n"
        "main()\n"
    )


@pytest.mark.parametrize(
    ("program", "before", "code", "words"),
    [
        ("from verdiff.cli import main; main()", limited, OutputError.exit_code, "too large"),
        (ended(signal.SIGTERM), None, 128 + signal.SIGTERM, "ended by SIGTERM"),
        (ended(signal.SIGHUP), None, 128 + signal.SIGHUP, "ended by SIGHUP"),
        (ended(signal.SIGINT), None, 130, "interrupted"),
    ],
    ids=["a full disk", "SIGTERM", "SIGHUP", "SIGINT"],
)
def test_a_call_that_cannot_end_leaves_the_files_of_the_one_before_and_no_other(
    program: str, before: Callable[[], None] | None, code: int, words: str, scan: Path, bundle: Path
) -> None:
    assert infer(scan, bundle).exit_code == 0
    files = contents(scan.parent)
    command = ["infer", scan, "--model", bundle, "--threads", "1", "--steps", "1", "--samples", "1", "--uncertainty"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], preexec_fn=before, capture_output=True, text=True
    )
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert contents(scan.parent) == files


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Two folders of one mask each."""
    for name in ("ours", "expert"):
        (tmp_path / name).mkdir()
        write_array((mr_scan().array > 900).astype(np.uint8), mr_scan(), tmp_path / name / "a.nii.gz")
    return tmp_path


def evaluate(masks: Path, *more: object) -> Result:
    return verdiff("evaluate", masks / "ours", masks / "expert", "--labels", "bone=1", "--no-distances", *more)


@pytest.mark.parametrize("name", ["scores.csv", "scores.json", "scores.md"])
def test_evaluate_and_compare_replace_their_own_tables_and_nobody_elses(name: str, masks: Path) -> None:
    assert evaluate(masks, "-o", masks / "out").exit_code == 0
    assert evaluate(masks, "-o", masks / "out").exit_code == 0
    assert all(made_by_verdiff(path) for path in (masks / "out").iterdir())
    (masks / "out" / name).write_text("my notes", "utf-8")
    refused(evaluate(masks, "-o", masks / "out"), masks, contents(masks), name)
    refused(evaluate(masks, "-o", masks / "out" / name), masks, contents(masks), name)
    assert evaluate(masks, "-o", masks / "out", "--overwrite").exit_code == 0
    compared = ("compare", f"a={masks / 'out'}", "--metrics", "dice", "-o", masks / "table")
    assert verdiff(*compared).exit_code == 0 and verdiff(*compared).exit_code == 0
    (masks / "table" / "comparison.md").write_text("my notes", "utf-8")
    refused(verdiff(*compared), masks, contents(masks), "comparison.md")
    assert verdiff(*compared, "--overwrite").exit_code == 0


def test_evaluate_does_not_replace_the_scores_it_compares_with(masks: Path) -> None:
    assert evaluate(masks, "-o", masks / "out").exit_code == 0
    result = evaluate(masks, "--compare-with", masks / "out", "-o", masks / "out")
    refused(result, masks, contents(masks), "is the other model itself")


def test_export_replaces_no_file_that_is_no_bundle(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "mine.verdiff").write_text("mine", "utf-8")
    before = contents(tmp_path)
    refused(verdiff("export", bundle, "--fp16", "-o", tmp_path / "mine.verdiff"), tmp_path, before, "not a bundle")
