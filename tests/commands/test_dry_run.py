"""``--dry-run``: what would be read, computed and written, or why not; nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.bundle.keys import write_pair
from tests.evaluate.test_evaluate_command import case, write
from tests.runtime.tiny_bundle import write_tiny
from tests.train.toy import write_raw_dataset
from verdiff.cli import WRITING, app
from verdiff.errors import DataError, OutputError


def verdiff(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Something for every command."""
    write_tiny(tmp_path / "tiny.verdiff")
    write_pair(tmp_path, "key")
    write_raw_dataset(tmp_path / "Dataset900_Toy", cases=4)
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
    "bench": ("volume", "--scan", "truth/a.nii.gz", "--model", "tiny.verdiff", "-o", "bench"),
    "data split": ("Dataset900_Toy", "--folds", "2", "--replace"),
}
SAID = {
    "sign": ("sign manifest ", "tiny.verdiff.sig"),
    "train": ("and 3 minutes", "run"),
    "train --prepare": ("prepare every slice", "cache"),
    "evaluate": ("score disc", "scores/scores.json"),
    "bench": ("measure volume, 5 rounds", "bench/volume.json"),
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
    assert any(line.startswith("would read ") for line in lines)
    assert any(line.startswith("would ") and work in line for line in lines), lines
    assert any(line.startswith("would write ") and line.endswith(place) for line in lines), lines
    assert there(room) == before and not (room / "run").exists() and not (room / "cache").exists()


@pytest.mark.parametrize(
    ("name", "words", "error"),
    [
        ("sign", ("tiny.verdiff", "--key", "key.pem", "-o", "key.pem"), OutputError),
        ("train", ("unet", "--data", "nowhere", "-o", "run"), DataError),
        ("evaluate", ("masks", "truth", "--labels", "disc=1", "-o", "truth/a.nii.gz"), OutputError),
        ("calibrate", ("tiny.verdiff", "--data", "Dataset900_Toy", "-o", "new.verdiff"), DataError),
        ("export", ("tiny.verdiff", "-o", "new.verdiff"), DataError),
        ("bench", ("volume", "--scan", "truth/a.nii.gz", "-o", "truth/a.nii.gz/bench"), OutputError),
        ("data split", ("Dataset900_Toy", "--folds", "9", "--replace"), DataError),
    ],
)
def test_a_rehearsal_of_what_would_be_refused_is_refused(
    room: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: tuple[str, ...], error: type[Exception]
) -> None:
    monkeypatch.chdir(room)
    before = there(room)
    result = verdiff(*name.split(), *words, "--dry-run")
    assert result.exit_code == error.exit_code, (result.output, result.exit_code)  # type: ignore[attr-defined]
    assert "to do: " in result.stderr and there(room) == before


def test_every_command_that_writes_can_be_rehearsed() -> None:
    for command in WRITING:
        name = ("data", command.__name__) if command.__name__ in ("convert", "split") else (command.__name__,)
        assert "--dry-run" in verdiff(*name, "--help").stdout, name
