"""``--dry-run``: what would be read, computed and written, or why not; nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.keys import write_pair
from tests.command_line import verdiff
from tests.evaluate.test_evaluate_command import case, write
from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from tests.train.toy import write_raw_dataset
from verdiff.cli import WRITING
from verdiff.errors import (
    BackendError,
    BudgetError,
    BundleError,
    DataError,
    InputError,
    OutputError,
    UnsuitableScanError,
    UntrustedBundleError,
    VerdiffError,
)
from verdiff.imaging import write_array


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Something for every command."""
    write_tiny(tmp_path / "tiny.verdiff")
    write_pair(tmp_path, "key")
    write_raw_dataset(tmp_path / "Dataset900_Toy", cases=4)
    write_array(mr_scan().array, mr_scan(), tmp_path / "scan.nii.gz")
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "junk-run").mkdir()
    (tmp_path / "junk-run" / "best.pt").write_bytes(b"junk")
    for name in ("a", "b"):
        write(tmp_path / "truth" / f"{name}.nii.gz", case(0))
        write(tmp_path / "masks" / f"{name}_seg.nii.gz", case(1))
    return tmp_path


def there(room: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in room.rglob("*") if path.is_file()}


COMMANDS = {
    "sign": ("tiny.verdiff", "--key", "key.pem"),
    "train": ("unet", "--data", "Dataset900_Toy", "-o", "run", "--minutes", "3"),
    "train --prepare": ("unet", "--data", "Dataset900_Toy", "-o", "cache", "--prepare"),
    "evaluate": ("masks", "truth", "--labels", "disc=1", "-o", "scores"),
    "bench": ("volume", "--scan", "scan.nii.gz", "--model", "tiny.verdiff", "-o", "bench"),
    "infer": ("scan.nii.gz", "--model", "tiny.verdiff", "-o", "masks/"),
    "data split": ("Dataset900_Toy", "--folds", "2", "--replace"),
}
SAID = {
    "sign": ("sign manifest ", "tiny.verdiff.sig"),
    "train": ("and 3 minutes", "run"),
    "train --prepare": ("prepare every slice", "cache"),
    "evaluate": ("score disc", "scores/scores.json"),
    "bench": ("measure volume, 5 rounds", "bench/volume.json"),
    "infer": ("would write", "masks/scan_seg.nii.gz"),
    "data split": ("make 2 folds of 4 patients", "splits_final.json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_rehearsal_says_what_would_be_done_and_does_nothing(
    room: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(room)
    before = there(room)
    result = verdiff(*name.split(), *COMMANDS[name], "--dry-run")
    assert result.exit_code == 0, result.output
    work, place = SAID[name]
    lines = result.stdout.splitlines()
    assert name == "infer" or any(line.startswith("would read ") for line in lines)
    assert any(line.startswith("would ") and work in line for line in lines), lines
    assert any(line.startswith("would write ") and line.endswith(place) for line in lines), lines
    assert there(room) == before and not (room / "run").exists() and not (room / "cache").exists()


ON_TOY = ("--data", "Dataset900_Toy", "-o", "run", "--minutes", "0.01")
SCAN = ("scan.nii.gz", "--model", "tiny.verdiff")
SCORE = ("masks", "truth", "--labels", "disc=1", "-o", "scores")


REFUSED = [
    ("sign", ("tiny.verdiff", "--key", "key.pem", "-o", "key.pem"), OutputError),
    ("sign", ("tiny.verdiff", "--key", "missing.pem"), InputError),
    ("sign", ("tiny.verdiff", "--key", "key.pub"), InputError),
    ("train", ("unet", "--data", "nowhere", "-o", "run"), DataError),
    ("train", ("unet", "--data", "truth", "-o", "run"), DataError),
    ("train", ("unet", *ON_TOY, "--fold", "9"), DataError),
    ("train", ("unet", *ON_TOY, "--folds", "9"), DataError),
    ("train", ("unet", *ON_TOY, "--from", "tiny.verdiff"), DataError),
    ("train", ("unet", "--data", "Dataset900_Toy", "-o", "mine.json", "--minutes", "0.01"), OutputError),
    ("train", ("unet", "--data", "truth", "-o", "cache", "--prepare"), DataError),
    ("distill", ("junk-run", "--data", "Dataset900_Toy", "-o", "student"), DataError),
    ("evaluate", ("masks", "truth", "--labels", "disc=1", "-o", "truth/a.nii.gz"), OutputError),
    ("evaluate", ("nowhere", "truth", "--labels", "disc=1", "-o", "scores"), DataError),
    ("evaluate", (*SCORE, "--compare-with", "nowhere"), DataError),
    ("evaluate", (*SCORE, "--cases", "a,zz"), DataError),
    ("evaluate", ("tiny.verdiff", "Dataset900_Toy", "--labels", "disc=1,rib=2", "-o", "scores"), DataError),
    ("calibrate", ("tiny.verdiff", "--data", "Dataset900_Toy", "-o", "new.verdiff"), DataError),
    ("export", ("tiny.verdiff", "-o", "new.verdiff"), DataError),
    ("export", ("junk-run", "-o", "new.verdiff"), DataError),
    ("bench", ("volume", *SCAN[1:], "--scan", "truth/a.nii.gz", "-o", "truth/a.nii.gz/bench"), UnsuitableScanError),
    ("bench", ("volume", *SCAN[1:], "--scan", SCAN[0], "-o", "truth/a.nii.gz/bench"), OutputError),
    ("bench", ("volume", *SCAN[1:], "--scan", "nowhere.nii.gz"), InputError),
    ("bench", ("volume", *SCAN[1:], "--scan", SCAN[0], "--reference", "truth/a.nii.gz"), DataError),
    ("bench", ("denoiser-step", "--model", "nowhere"), BundleError),
    ("bench", ("denoiser-step", *SCAN[1:], "--run", "nowhere"), DataError),
    ("bench", ("deadline", *SCAN[1:], "--data", "Dataset900_Toy", "--fold", "9"), DataError),
    ("data split", ("Dataset900_Toy", "--folds", "9", "--replace"), DataError),
    ("infer", ("truth/a.nii.gz", "--model", "tiny.verdiff"), UnsuitableScanError),
    ("infer", (*SCAN, "--expect-sha256", "0" * 64), UntrustedBundleError),
    ("infer", (*SCAN, "--policy", "fast"), InputError),
    ("infer", (*SCAN, "--backend", "tensorrt"), BackendError),
    ("infer", (*SCAN, "--budget-ms", "0.001"), BudgetError),
    ("infer", (*SCAN, "--mesh", "--margin-probability", "0.9"), InputError),
    ("infer", ("truth/a.nii.gz", *SCAN, "-o", "out", "--backend", "tensorrt"), BackendError),
    ("infer", ("truth/a.nii.gz", *SCAN, "-o", "out", "--mesh", "--margin-probability", "0.9"), InputError),
]


@pytest.mark.parametrize("dry_run", [True, False], ids=["rehearsal", "run"])
@pytest.mark.parametrize(("name", "words", "error"), REFUSED)
def test_what_the_run_refuses_before_its_work_the_rehearsal_refuses_alike(
    room: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: tuple[str, ...],
    error: type[VerdiffError],
    dry_run: bool,
) -> None:
    monkeypatch.chdir(room)
    before = there(room)
    result = verdiff(*name.split(), *words, *(["--dry-run"] if dry_run else []))
    assert result.exit_code == error.exit_code, (result.output, result.exit_code)
    assert result.stderr.count("to do: ") == 1 and there(room) == before


def test_every_command_that_writes_can_be_rehearsed() -> None:
    for command in WRITING:
        name = ("data", command.__name__) if command.__name__ in ("convert", "split") else (command.__name__,)
        assert "--dry-run" in verdiff(*name, "--help").stdout, name
