"""A record of a table is taken over where all that decides its scores is the same, and refused by what differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studies.__main__ import app
from studies.training import queue
from studies.training.folder import TableOptions
from studies.training.record import commit, fingerprint, read_record
from tests.studies.test_tables import TINY, quiet
from tests.train.toy import write_films, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train import training


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("raw") / "Dataset900_Toy", 4, 2)


@pytest.fixture(scope="module")
def options(films: Path) -> TableOptions:
    return TableOptions("ablation", films, budget=20, others=20, models=("neither",), settings=TINY)


@pytest.fixture(scope="module")
def record(options: TableOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of a queue when its machine is gone: the files that are recorded."""
    output = tmp_path_factory.mktemp("queue") / "queue"
    queue.run(options, output, say=quiet)
    kept = tmp_path_factory.mktemp("results") / "ablation-mr"
    kept.mkdir()
    for name in ("table.json", "table.md", "cases.csv"):
        shutil.copy(output / name, kept / name)
    return kept


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the runs that were trained."""
    found: list[str] = []
    run: Callable[..., Path] = training.run

    def noted(name: str, sources: object, output: Path, **how: object) -> Path:
        found.append(output.name)
        return run(name, sources, output, **how)

    monkeypatch.setattr(training, "run", noted)
    return found


def test_only_what_is_missing_is_trained_and_each_line_says_where_it_was_measured(
    films: Path, record: Path, trained: list[str], tmp_path: Path
) -> None:
    settings = [word for text in TINY for word in ("--set", text)]
    asked = ["ablation", str(films), "-o", str(tmp_path / "queue"), "--seeds", "1", "--threads", "1", *settings]
    result = CliRunner().invoke(app, [*asked, "--models", "NSA alone,neither", "--with", str(record)])
    assert result.exit_code == 0, result.output
    assert trained == ["nsa-alone"] and "neither taken over from ablation-mr" in result.output
    table = (tmp_path / "queue/table.md").read_text("utf-8")
    assert any(line.startswith("| nsa-alone | ") and line.endswith("| trained |") for line in table.splitlines())
    where = next(line for line in table.splitlines() if line.endswith("| taken over from ablation-mr |"))
    assert where.startswith("| neither | ") and f"| {commit() or 'unknown'} |" in where
    # The figures are the record's, to the last digit, and the new record has them in its turn.
    ours, theirs = ((each / "cases.csv").read_text("utf-8").splitlines()[1:] for each in (tmp_path / "queue", record))
    assert set(theirs) < set(ours)
    again = read_record(tmp_path / "queue").training("neither", 35)
    assert again is not None and again.origin == "ablation-mr"
    assert again.scores == read_record(record).trainings[0].scores


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"clock": "processor"}, "another table: clock = wall, here processor"),
        ({"threads": 2}, "threads = 1, here 2"),
        ({"every": 2}, r"2 cases scored, here 1 \(--every\)"),
        ({"budget": 7.0}, r"neither, seed 35, .* trained otherwise: budget = 7 minutes \(was 20\)"),
        ({"settings": (*TINY, "training.clip=2.0")}, r"training.clip = 2.0 \(was"),
        ({"seed": 36}, "no training of this queue, only neither, seed 35"),
        ({"models": ("NSA alone",)}, "no training of this queue"),
    ],
)
def test_a_record_that_was_made_otherwise_is_refused_by_what_differs(
    options: TableOptions,
    record: Path,
    trained: list[str],
    tmp_path: Path,
    changed: dict[str, object],
    words: str,
) -> None:
    other = replace(options, **changed)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        queue.run(other, tmp_path / "queue", records=[record], say=quiet)
    assert trained == [] and not list((tmp_path / "queue").glob("*/scores.json"))


def test_a_record_of_other_masks_is_refused(
    options: TableOptions, films: Path, record: Path, trained: list[str], tmp_path: Path
) -> None:
    other = shutil.copytree(films, tmp_path / "Dataset900_Toy")
    shutil.copy(other / "labelsTr/toy3.png", other / "labelsTr/toy2.png")
    assert fingerprint(other) != fingerprint(films)
    with pytest.raises(DataError, match="Dataset900_Toy had other images, masks or splits"):
        queue.run(replace(options, data=other), tmp_path / "queue", records=[record], say=quiet)
    assert trained == []


def test_a_record_made_from_the_cache_of_the_same_data_is_taken(
    options: TableOptions, record: Path, trained: list[str], tmp_path: Path
) -> None:
    asked = replace(options, models=("NSA alone",))
    queue.run(asked, tmp_path / "raw", say=quiet)
    cache = tmp_path / "raw" / "cache"
    queue.run(replace(options, data=cache), tmp_path / "from-cache", say=quiet)
    assert trained == ["nsa-alone", "neither"]
    both = replace(options, models=("NSA alone", "neither"))
    found = queue.run(both, tmp_path / "both", records=[tmp_path / "raw", tmp_path / "from-cache"], say=quiet)
    assert (found.done, found.failed) == (2, {}) and trained == ["nsa-alone", "neither"]


def test_a_record_of_another_data_set_is_refused(options: TableOptions, record: Path, tmp_path: Path) -> None:
    other = write_raw_dataset(tmp_path / "Dataset901_Other", cases=4, ending=".png")
    with pytest.raises(DataError, match="of Dataset900_Toy, here Dataset901_Other"):
        queue.run(replace(options, data=other), tmp_path / "queue", records=[record], say=quiet)


def test_a_queue_does_not_go_on_with_other_data(
    options: TableOptions, films: Path, record: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(films, tmp_path / "Dataset900_Toy")
    queue.run(replace(options, data=data), tmp_path / "queue", records=[record], say=quiet)
    (data / "imagesTr/toy0_0000.png").write_bytes((data / "imagesTr/toy1_0000.png").read_bytes())
    with pytest.raises(DataError, match="Dataset900_Toy is not as it was when queue was begun"):
        queue.run(replace(options, data=data), tmp_path / "queue", say=quiet)


def test_what_is_no_record_is_said_so(options: TableOptions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone/table.json: FileNotFoundError"):
        queue.run(options, tmp_path / "queue", records=[tmp_path / "gone"], say=quiet)
    (tmp_path / "table.json").write_text('{"options": {}, "sittings": {}, "models": {}}', "utf-8")
    with pytest.raises(DataError, match="no scores in it"):
        queue.run(options, tmp_path / "queue", records=[tmp_path], say=quiet)
    assert not (tmp_path / "queue").exists()
