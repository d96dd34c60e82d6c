"""A checkpoint is the old one or the complete new one, whatever happens while it is saved."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from tests.train.toy import toy_config, toy_dataset
from verdiff.errors import OutputError
from verdiff.train.checkpoint import RunFacts, read_checkpoint, write_checkpoint
from verdiff.train.trainer import Trainer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with one checkpoint."""
    trainer = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run", device="cpu")
    trainer.step()
    trainer._validate({"prior": 1.0, "denoiser": 1.0})
    return tmp_path / "run"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_a_full_disk_is_one_message_and_leaves_the_old_checkpoint_and_no_other_file(
    run: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A limit on the size of files stands for a full disk: writing fails that far into the file."""
    path = run / "last.pt"
    before, names, checkpoint = path.read_bytes(), sorted(run.iterdir()), read_checkpoint(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(before)), hard))
    try:
        with pytest.raises(OutputError, match=r"last\.pt cannot be written"):
            write_checkpoint(path, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert sorted(run.iterdir()) == names
    write_checkpoint(path, checkpoint)
    assert read_checkpoint(path).iteration == checkpoint.iteration


def test_cases_of_one_name_in_two_data_sets_are_held_out_each_for_itself() -> None:
    parts = {"A": {"validation_cases": ["p1", "p2"]}, "B": {"validation_cases": ["p1", "q1"]}}
    facts = RunFacts("A+B", ("bone",), (1,), 0, {}, ("p1", "p2", "p1@B", "q1"), parts=parts)
    assert (facts.put_aside("A"), facts.put_aside("B"), facts.put_aside("C")) == (("p1", "p2"), ("p1", "q1"), None)
    seen = RunFacts(
        "A+B", ("bone",), (1,), 0, {}, ("p1", "p2", "p1@B", "q1"), parts=parts, origin={"trained_on": ["p1@B"]}
    )
    assert (seen.put_aside("A"), seen.put_aside("B")) == (("p1", "p2"), ("q1",))
