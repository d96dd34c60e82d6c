"""A run's folder: one owner, a remembered start, a resume that refuses what differs, a stop that loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.test_train_command import SETTINGS, train
from tests.train.toy import toy_config, toy_dataset, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train import training as command
from verdiff.train.checkpoint import read_checkpoint
from verdiff.train.data.joining import TrainingSource
from verdiff.train.run_folder import STARTED, Started, differences, other_data, owned
from verdiff.train.trainer import Trainer


def resume(
    run: Path, *, config: str | None = None, sources: tuple[TrainingSource, ...] = (), **options: object
) -> Path:
    return command.run(config, sources, run, resume=True, say=lambda line: None, **options)  # type: ignore[arg-type]


def test_a_run_goes_on_with_nothing_retyped_and_with_a_longer_budget(tmp_path: Path) -> None:
    run = train(tmp_path, "run", fold=1, folds=4, patients="toy[0-9]")
    before = read_checkpoint(run / "last.pt")
    resume(run, settings=("training.iterations=4",))
    after = read_checkpoint(run / "last.pt")
    assert (before.iteration, after.iteration) == (2, 4)
    assert after.facts == before.facts and differences(after.config, before.config) == []
    assert json.loads((run / "config.json").read_text("utf-8"))["training"]["iterations"] == 4


def test_the_budget_of_a_run_stays_when_its_command_is_typed_again_without_it(tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    resume(run, config="spine-mr", sources=(TrainingSource(tmp_path / "data"),), settings=SETTINGS)
    assert read_checkpoint(run / "last.pt").iteration == 2


def test_another_number_of_folds_is_refused_and_names_the_cases(tmp_path: Path) -> None:
    run = train(tmp_path, "run", folds=4)
    kept = (run / "last.pt").read_bytes()
    with pytest.raises(DataError, match="validation cases more"):
        resume(run, folds=2, settings=("training.iterations=4",))
    assert (run / "last.pt").read_bytes() == kept


def test_exchanged_labels_are_refused_and_named(tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    description = tmp_path / "data" / "dataset.json"
    values = json.loads(description.read_text("utf-8"))
    values["labels"] = {"background": 0, "vertebra": 2, "disc": 1}
    description.write_text(json.dumps(values), "utf-8")
    with pytest.raises(DataError, match=r"label ids: vertebra 2, disc 1 \(was vertebra 1, disc 2\)"):
        resume(run, settings=("training.iterations=4",))


def test_another_setting_is_refused_and_named(tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    with pytest.raises(DataError, match=r"training\.batch = 2 \(was 1\)"):
        resume(run, settings=("training.batch=2",))


def test_a_data_set_that_grew_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run", device="cpu")
    fewer = dataclasses.replace(trainer.facts, training_cases=trainer.facts.training_cases[:-1])
    assert other_data(trainer.facts, fewer) == ["training cases more: toy2"]
    # Older checkpoints do not say which cases they trained on.
    assert other_data(trainer.facts, dataclasses.replace(trainer.facts, training_cases=())) == []


def test_resuming_where_there_is_no_run_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        resume(tmp_path / "none", config="spine-mr", sources=(TrainingSource(tmp_path),))
    assert "without --resume" in caught.value.remedy and not (tmp_path / "none").exists()


def test_a_checkpoint_cut_short_is_named_with_a_way_on(tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    whole = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"last\.pt is damaged") as caught:
        resume(run)
    assert "best.pt holds the best weights" in caught.value.remedy
    (run / "best.pt").unlink()
    with pytest.raises(DataError) as caught:
        resume(run)
    assert "without --resume" in caught.value.remedy and "last.pt" not in caught.value.remedy


def test_a_run_of_before_its_start_was_kept_asks_for_it(tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    (run / STARTED).unlink()
    with pytest.raises(DataError, match="no --data"):
        resume(run)
    assert Started.read(run) is None


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from verdiff.train.run_folder import owned\n"
        "with owned(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"process {process.pid}"), owned(tmp_path / "run"):
            pass
    finally:
        process.kill()
        process.wait()
    with owned(tmp_path / "run"):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_weights_kept(tmp_path: Path, number: signal.Signals) -> None:
    data = write_raw_dataset(tmp_path / "data", cases=4)
    settings = [part for setting in SETTINGS[:-1] for part in ("--set", setting)]
    arguments = ["train", "spine-mr", "--data", str(data), "-o", str(tmp_path / "run"), *settings, "--threads", "1"]
    # Whoever runs the tests in the background has them ignore Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from verdiff.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        while not (tmp_path / "run" / "config.json").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else 143) and "Traceback" not in err, err
    checkpoint = read_checkpoint(tmp_path / "run" / "last.pt")
    assert f"stopped at iteration {checkpoint.iteration}" in out and "--resume" in out
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_young_run_is_saved_before_its_first_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from verdiff.train import trainer as module

    monkeypatch.setattr(module, "FIRST_SAVE_MINUTES", 0.0)
    trainer = Trainer(toy_config(validate_every=100), toy_dataset(), 0, tmp_path / "run", device="cpu")
    for state in trainer.train():
        if state.iteration == 2:
            break
    # The first save is early; from then on a run is kept every ten minutes.
    assert read_checkpoint(tmp_path / "run" / "last.pt").iteration == 1
