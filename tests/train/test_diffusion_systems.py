"""SpineSegDiff and MedSegDiff as runs: their shipped configurations; that they learn, and sample their own chains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.train.toy import toy_case, toy_config, toy_dataset
from verdiff.errors import DataError
from verdiff.train.config import ProcessConfig, RunConfig, SamplingConfig, load_config
from verdiff.train.data.middle import middle_slices
from verdiff.train.networks.medsegdiff import MedSegDiffConfig
from verdiff.train.networks.spinesegdiff import SpineSegDiffConfig
from verdiff.train.trainer import Trainer

SETTINGS: dict[str, RunConfig] = {
    "spinesegdiff": RunConfig(
        system="spinesegdiff",
        network=SpineSegDiffConfig((8, 8, 16), (8, 8, 8, 16, 16), 8, 32),
        process=ProcessConfig("ddpm", "cosine", 30),
        sampling=SamplingConfig(steps=3, samples=2, start="prior", start_step=20, fusion="steps"),
    ),
    "medsegdiff": RunConfig(
        system="medsegdiff",
        network=MedSegDiffConfig((8, 8, 16, 16, 16), (1, 1, 1, 1), 2, 32),
        process=ProcessConfig("ddpm", "linear", 1000, prediction="epsilon"),
        sampling=SamplingConfig(sampler="dpmpp-2m", steps=5),
    ),
}


def run_config(name: str, **training: object) -> RunConfig:
    toy, own = toy_config(crop=(32, 32), recycle=0.0, **training), SETTINGS[name]
    return dataclasses.replace(toy, **{key: getattr(own, key) for key in ("system", "network", "process", "sampling")})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_learns_and_samples_masks_close_to_its_prior(name: str, tmp_path: Path) -> None:
    config = run_config(name, iterations=40, batch=2, learning_rate=1e-2, validate_every=40)
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu")
    rows = [(state.loss, state.validation) for state in trainer.train()]
    early, late = (np.mean([loss for loss, _ in part]) for part in (rows[:10], rows[-11:-1]))
    result = rows[-1][1]
    assert late < 0.75 * early
    assert result is not None and result.prior.mean() > 0.7
    assert result.sampled.mean() > (0.5 if name == "spinesegdiff" else 0.3)


def test_the_papers_settings_of_spinesegdiff_are_the_papers() -> None:
    light, paper = load_config("spinesegdiff"), load_config("spinesegdiff-paper")
    # docs/systems-diffusion.md says what the two rates reach in ten minutes.
    for config, rate in ((light, 1e-3), (paper, 1e-4)):
        training, sampling = config.training, config.sampling
        assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adamw", rate, 1e-3)
        # The paper's 1 : 1 : 1 is on probabilities, whose squares are a quarter of those on [-1, 1].
        assert (4 * training.loss_mse, training.loss_bce, training.loss_dice) == (1.0, 1.0, 1.0)
        assert training.crop == (320, 320) and config.process.timesteps == 30
        assert (sampling.start, sampling.start_step) == ("prior", 20)
    assert paper.data.middle_slices == 1 and paper.network.widths == (64, 64, 128, 256, 512)


@pytest.mark.parametrize("name", ["spinesegdiff", "spinesegdiff-paper"])
def test_the_truncated_chain_still_holds_half_of_the_presegmentation(name: str) -> None:
    config = load_config(name)
    process = config.process.build()
    table = config.sampling.table(process)
    assert table.timesteps[0] == 20 and table.start[0] == pytest.approx(0.5, abs=0.01)
    # The paper's own start, at T.
    assert process.signal[-1] == pytest.approx(0.0016, abs=1e-4)


def test_middle_slices_are_the_middle_and_all_of_a_short_scan() -> None:
    dataset = dataclasses.replace(toy_dataset(), cases=(toy_case("long", 1, slices=7), toy_case("short", 2, slices=2)))
    kept = middle_slices(dataset, 3)
    assert np.array_equal(kept.cases[0].images, dataset.cases[0].images[2:5])
    assert np.array_equal(kept.cases[0].labels, dataset.cases[0].labels[2:5])
    assert np.array_equal(kept.cases[1].images, dataset.cases[1].images)
    assert np.array_equal(middle_slices(dataset, 1).cases[0].images, dataset.cases[0].images[3:4])
    assert middle_slices(dataset, None) is dataset
    with pytest.raises(DataError, match="middle_slices = 0"):
        middle_slices(dataset, 0)
