"""The trainer of the package ``nnunetv2``, driven for a budget of minutes in the place of its thousand epochs.

Everything of a step is nnU-Net's own: batches, augmentation, network, loss and SGD. What differs: its polynomial decay
runs over the share of the budget that is spent, where nnU-Net's runs over its epochs; there are no epochs, and so none
of its looks at validation batches; and where the processor has bf16 the network computes in it, as all of verdiff's
trainings do and as nnU-Net's computes in FP16 on a GPU.
"""

from __future__ import annotations

import json
import math
import random
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.library.nnunet_predictor import CONFIGURATION
from verdiff.errors import VerdiffError
from verdiff.files import atomic_path

SPENT = "budget.json"
LATEST, FINAL = "checkpoint_latest.pth", "checkpoint_final.pth"
SAVE_EVERY_S = 300.0


@dataclass
class Spent:
    """What a training has had of its budget.

    Attributes:
        minutes: Minutes of its loop by the wall clock.
        processor_minutes: Minutes of the processor in its loop, all threads together.
        iterations: Steps.
        last_loss: Loss of the last one.
        parameters: Parameters of the network.
        bf16: Whether it computed in bf16.
    """

    minutes: float = 0.0
    processor_minutes: float = 0.0
    iterations: int = 0
    last_loss: float = 0.0
    parameters: int = 0
    bf16: bool = False

    @classmethod
    def read(cls, output: Path) -> Spent:
        """What was spent when the weights in a folder were saved; nothing where there are none."""
        if not (output / LATEST).is_file():
            return cls()
        return cls(**json.loads((output / SPENT).read_text("utf-8")))


def train_on_budget(
    plans: str,
    description: str,
    fold: int,
    minutes: float,
    processor: bool,
    threads: int,
    seed: int,
    seconds: float | None = None,
) -> None:
    """What a fresh process runs, in nnU-Net's environment: train a fold until the budget is spent.

    A training that was stopped goes on from its last save, which is at most five minutes old if it was killed. What it
    has spent stands in ``budget.json`` beside nnU-Net's checkpoint.

    Args:
        plans: ``nnUNetPlans.json``; the preprocessed data set lies beside it.
        description: The data set's ``dataset.json``.
        fold: A fold of the ``splits_final.json`` beside the plans.
        minutes: The budget, of the loop alone: to load and to end is not in it.
        processor: Whether it is of the processor, of each thread, and not of the wall clock.
        threads: Threads of PyTorch; batches are made in this process, too.
        seed: Seed of weights, batches and augmentation.
        seconds: After how many seconds of the wall clock to stop with the weights kept; None: at the budget's end.

    Raises:
        VerdiffError: The loss is no longer finite.
    """
    import numpy as np
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from verdiff.train.optimisation import bf16_is_fast

    torch.set_num_threads(threads)
    _seed_all(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan, about = (json.loads(Path(path).read_text("utf-8")) for path in (plans, description))
    trainer = nnUNetTrainer({**plan, "continue_training": False}, CONFIGURATION, fold, about, device)
    trainer.initialize()
    trainer.on_train_start()
    output = Path(trainer.output_folder)
    spent = Spent.read(output)
    if spent.iterations:
        trainer.load_checkpoint(str(output / LATEST))
        trainer.network.train()
        # Other batches than those of the sittings before.
        _seed_all(int(np.random.SeedSequence((seed, spent.iterations)).generate_state(1)[0]))
    bf16 = device.type == "cpu" and bf16_is_fast(device, 2)
    spent.bf16, spent.parameters = bf16, sum(each.numel() for each in trainer.network.parameters())
    if bf16:
        trainer.loss = _in_fp32(trainer.loss)
    share = 0.0
    began, own = (time.monotonic(), time.process_time()), (spent.minutes, spent.processor_minutes)
    saved = began[0]
    while share < 1.0:
        # The scheduler counts in epochs; of the last one only the whole budget is the end.
        trainer.lr_scheduler.step(share * trainer.num_epochs)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = float(trainer.train_step(next(trainer.dataloader_train))["loss"])
        if not math.isfinite(loss):
            raise VerdiffError(
                f"nnU-Net's loss is {loss} after {spent.iterations + 1} iterations",
                "a finite loss",
                "give the same command again: it goes on from the last save",
            )
        spent.iterations += 1
        spent.last_loss = loss
        spent.minutes = own[0] + (time.monotonic() - began[0]) / 60
        spent.processor_minutes = own[1] + (time.process_time() - began[1]) / 60
        share = (spent.processor_minutes / threads if processor else spent.minutes) / minutes
        stopped = seconds is not None and time.monotonic() - began[0] >= seconds
        if share < 1.0 and (stopped or time.monotonic() - saved >= SAVE_EVERY_S):
            trainer.save_checkpoint(str(output / f"{LATEST}.part"))
            (output / f"{LATEST}.part").replace(output / LATEST)
            _write(spent, output)
            saved = time.monotonic()
        if stopped and share < 1.0:
            return
    _write(spent, output)
    trainer.on_train_end()


def _seed_all(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _in_fp32(loss: Any) -> Any:
    """nnU-Net's loss on outputs of one network at several scales, computed in float32."""
    import torch

    def computed(outputs: Any, targets: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return loss([each.float() for each in outputs], targets)

    return computed


def _write(spent: Spent, output: Path) -> None:
    with atomic_path(output / SPENT) as temporary:
        temporary.write_text(json.dumps(asdict(spent)) + "\n", "utf-8")
