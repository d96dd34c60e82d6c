"""Two processes that torchrun starts train what one trains: the same curve, the same files, going on either way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.train.toy import toy_config, toy_dataset, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train import training as command
from verdiff.train.checkpoint import read_checkpoint
from verdiff.train.curves import read_metrics
from verdiff.train.data.joining import TrainingSource
from verdiff.train.ranks import Ranks
from verdiff.train.run_kind import RunKind
from verdiff.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
# Batches whose loss and norms depend on both samples together, with every kind of draw.
SETTINGS = (
    "network.prior_widths=[8, 8, 16]", "network.denoiser_widths=[8, 8]", "network.fusion_width=8",
    "training.crop=[16, 16]", "training.batch=2", "training.recycle=0.5", "training.corrupt=0.5",
    "training.validate_every=2", "training.validate_slices=1", "training.prior_first=0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "raw"
    write_raw_dataset(folder, cases=4)
    return folder


def pair(*words: object) -> subprocess.Popen[str]:
    """``torchrun --nproc-per-node 2 -m verdiff train ...`` on this machine alone."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launcher, "-m", "verdiff", "train", *map(str, words), "--threads", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def started(data: Path, run: Path, iterations: int) -> list[object]:
    settings = [word for setting in (*SETTINGS, f"training.iterations={iterations}") for word in ("--set", setting)]
    return ["spine-mr", "--data", data, "-o", run, *settings]


def alone(data: Path, run: Path, iterations: int, *, resume: bool = False) -> Path:
    settings = [*(() if resume else SETTINGS), f"training.iterations={iterations}"]
    name, sources = (None, []) if resume else ("spine-mr", [TrainingSource(data)])
    return command.run(name, sources, run, settings=settings, resume=resume, threads=1, say=lambda line: None)


def same_curve(run: Path, other: Path) -> None:
    """Sums in another order move the last digits, and Adam's first steps carry that on."""
    for ours, theirs in zip(read_metrics(run / "metrics.csv"), read_metrics(other / "metrics.csv"), strict=True):
        for name in ("iteration", "learning_rate", "loss_prior", "loss_denoiser", "dice_prior"):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=2e-3, nan_ok=True), name


def weights_apart(run: Path, other: Path) -> float:
    ours, theirs = (read_checkpoint(each / "last.pt").net for each in (run, other))
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Four iterations by two processes and by one, and what the two said."""
    folder = tmp_path_factory.mktemp("runs")
    two = pair(*started(data, folder / "two", 4))
    one = alone(data, folder / "one", 4)
    said, _ = two.communicate(timeout=300)
    assert two.returncode == 0, said
    return folder / "two", one, said


def test_two_processes_have_the_loss_curve_and_the_weights_of_one(runs: tuple[Path, Path, str]) -> None:
    two, one, _ = runs
    assert [row["iteration"] for row in read_metrics(two / "metrics.csv")] == [2, 4]
    same_curve(two, one)
    # A thousandth of what four steps of Adam move a weight by would be 4e-7.
    assert weights_apart(two, one) < 1e-4
    tracked = read_checkpoint(two / "last.pt").net
    norms = [name for name in tracked if name.endswith("running_mean")]
    assert norms and any(float(tracked[name].abs().max()) > 0 for name in norms)


def test_the_first_process_alone_writes_and_speaks(runs: tuple[Path, Path, str]) -> None:
    two, one, said = runs
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert said.count("iteration 4, ") == 1 and said.count("parameters; ") == 1


def test_one_process_goes_on_with_a_run_of_two(runs: tuple[Path, Path, str], data: Path, tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "mixed")
    shutil.copytree(runs[1], tmp_path / "one")
    for name in ("mixed", "one"):
        alone(data, tmp_path / name, 6, resume=True)
    same_curve(tmp_path / "mixed", tmp_path / "one")
    assert read_checkpoint(tmp_path / "mixed" / "last.pt").iteration == 6


def test_two_go_on_with_a_run_of_one_and_ctrl_c_keeps_the_weights_of_both(
    runs: tuple[Path, Path, str], data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[1], run)
    two = pair("--resume", "-o", run, "--set", "training.iterations=100000")
    until = time.monotonic() + 200
    while time.monotonic() < until and two.poll() is None and len(read_metrics(run / "metrics.csv")) < 3:
        time.sleep(0.2)
    two.send_signal(signal.SIGINT)
    said, _ = two.communicate(timeout=120)
    assert said.count("stopped at iteration ") == 1, said
    at = int(said.split("stopped at iteration ")[1].split(";")[0])
    assert read_checkpoint(run / "last.pt").iteration == at > 4
    alone(data, run, at + 1, resume=True)
    assert read_checkpoint(run / "last.pt").iteration == at + 1


@pytest.mark.parametrize(("batch", "teacher", "message"), [(3, {}, "a batch of 3"), (2, {"iteration": 1}, "distil")])
def test_what_several_processes_cannot_train_is_refused(
    batch: int, teacher: dict[str, int], message: str, tmp_path: Path
) -> None:
    kind = RunKind(teacher=teacher)
    with pytest.raises(DataError, match=message):
        Trainer(toy_config(batch=batch), toy_dataset(), 0, tmp_path / "run", kind=kind, ranks=Ranks(0, 2, 0))
    assert not (tmp_path / "run").exists()


def test_a_norm_that_is_shared_is_the_norm_of_the_whole_batch_in_one_process(tmp_path: Path) -> None:
    """One process has the whole batch: the sums are then those of PyTorch's own norm, with their gradients."""
    from torch import distributed as dist
    from torch import nn

    from verdiff.train.shared_norms import share_norms

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=0.05))
    shared = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=0.05))
    shared.load_state_dict(plain.state_dict())
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        share_norms(shared, 1)
        x = 3 + torch.randn(4, 2, 9, 8)
        for net in (plain, shared):
            (net(x) * torch.linspace(0, 1, 7 * 6).reshape(7, 6)).square().sum().backward()
    finally:
        dist.destroy_process_group()
    for (name, a), b in zip(plain.named_parameters(), shared.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3, msg=name)
    for (name, value), other in zip(plain.state_dict().items(), shared.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=name)
