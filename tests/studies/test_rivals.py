"""The case ``rivals``: who takes part, whose Dice stands beside whose time, and which aims it is held against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies import running
from studies.cases import rivals
from studies.cases.rivals import COMPILED, DEFAULT, EAGER, NAIVE, RUNTIME, TORCH
from studies.library.runtime_slices import Answer
from studies.library.torch_slices import TorchSlices
from studies.options import StudyOptions
from tests.benchmarks.tiny_fold import write_fold, write_short_chain
from tests.runtime.tiny_bundle import NumpyBackend, write_tiny
from verdiff.benchmarks import harness
from verdiff.benchmarks.cases import Findings
from verdiff.diffusion import SamplerTable, fuse_mean, noise_source, run_loop
from verdiff.errors import BackendError, DataError, InputError

FULL, SOLVER = "60-step DDPM x 5", "50-step DPM-Solver++(2M) x 5"


@pytest.fixture(scope="module", autouse=True)
def in_a_hurry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "SETTLE_S", 0)
        patch.setattr(rivals, "FEWEST_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_short_chain(tmp_path_factory.mktemp("bundle") / "tiny.verdiff")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fold(tmp_path_factory.mktemp("data") / "Dataset900_Tiny", folds=1)


@pytest.fixture(scope="module")
def options(bundle: Path, data: Path) -> StudyOptions:
    return StudyOptions(bundle=bundle, data=data, repeats=1, warmup=0, threads=2, recipe_slices=3)


class NumpyAsTorch:
    """The tiny networks in numpy, in PyTorch's place."""

    def __init__(self, same_weights: bool = True, compiler: bool = True, offset: float = 0.0) -> None:
        self.same_weights, self.compiler, self.offset = same_weights, compiler, offset
        self.backend = NumpyBackend()

    def priors(self, images: np.ndarray) -> np.ndarray:
        return self.offset + (self.backend.prior(images)[0] + 1) / 2

    def answer(
        self, table: SamplerTable, samples: int = 1, *, form: str = "eager", stop_after: int | None = None
    ) -> Answer:
        def answer(images: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
            if form == "compiled" and not self.compiler:
                raise RuntimeError("no C++ compiler\nand a long trace")
            prior, features = self.backend.prior(images)
            drawn = [
                run_loop(
                    lambda x, t: self.backend.denoise(x, t, prior, features),
                    table,
                    prior,
                    noise_source(1, slices=list(numbers), samples=[m] * len(images), shape=prior.shape[1:]),
                    on_step=lambda state: state.row + 1 != stop_after,
                )
                for m in range(samples)
            ]
            return fuse_mean(np.stack(drawn)).probabilities

        return answer


def in_place_of_torch(**how: Any) -> rivals.TorchFactory:
    return lambda bundle, training_run, threads: NumpyAsTorch(**how)  # type: ignore[return-value]


def no_torch(bundle: Any, training_run: Path | None, threads: int) -> TorchSlices:
    raise BackendError("torch is not installed", "PyTorch for this rival", "pip install torch")


@pytest.fixture(scope="module")
def outcome(options: StudyOptions) -> Findings:
    return rivals.run(options, in_place_of_torch())


@pytest.fixture(scope="module")
def without_torch(options: StudyOptions) -> Findings:
    return rivals.run(options, no_torch)


def test_every_rival_has_its_dice_beside_its_time(outcome: Findings) -> None:
    recipes = [f"{recipe}, {engine}, extrapolated" for engine in (RUNTIME, EAGER) for recipe in (FULL, SOLVER)]
    assert list(outcome.timings) == [DEFAULT, NAIVE, *TORCH, *recipes]
    assert outcome.left_out == {}
    rows = {row["name"]: row for row in outcome.results["rivals"]}
    assert [name for name, row in rows.items() if row["extrapolated"]] == recipes
    assert all(set(row["patients"]) == {"p0", "p1"} for row in rows.values())
    # The solver is a chain of 50 where the full one has 60, so both get three slices in all.
    assert {name: row["slices"] for name, row in rows.items()} == {
        **dict.fromkeys((DEFAULT, NAIVE, *TORCH), 6),
        **dict.fromkeys(recipes, 3),
    }
    assert rows[DEFAULT]["mean"] == rows[NAIVE]["default_mean_on_these"]
    assert rows[recipes[0]]["patients"] != rows[DEFAULT]["patients"]
    assert rows[DEFAULT]["default_times_faster"]["value"] == 1


def test_a_recipe_s_time_is_that_of_all_its_steps(without_torch: Findings) -> None:
    results = without_torch.results
    faster = {row["name"]: row["default_times_faster"]["value"] for row in results["rivals"]}
    # 300 passes against the default's 6; the prior and everything around the loop blur it.
    assert faster[f"{FULL}, {RUNTIME}, extrapolated"] > 8
    assert set(results["recipes_really_run_s_a_slice"]) == {FULL, SOLVER}


def test_the_aims_are_a_hundred_times_and_eight_times_and_hardly_any_dice(outcome: Findings) -> None:
    figures = {figure.name: figure for figure in outcome.figures}
    for engine in (RUNTIME, EAGER):
        assert figures[f"default, times faster than {FULL}, {engine}, extrapolated"].at_least == 100
        assert figures[f"default, times faster than {SOLVER}, {engine}, extrapolated"].at_least == 8
    behind = {name: figure for name, figure in figures.items() if name.startswith("mean Dice of the default behind")}
    assert len(behind) == 6 and all(figure.at_most == 0.002 for figure in behind.values())
    assert figures["largest difference of the prior, PyTorch from the runtime"].met
    assert figures["compiling with torch.compile, and one slice"].unit == "s"


def test_a_rival_without_a_compiler_is_left_out_and_says_why(options: StudyOptions) -> None:
    outcome = rivals.run(options, in_place_of_torch(compiler=False))
    assert outcome.left_out == {COMPILED: "no C++ compiler"}
    assert COMPILED not in outcome.timings and EAGER in outcome.timings


def test_without_torch_the_runtime_still_meets_the_recipes(without_torch: Findings) -> None:
    assert set(without_torch.left_out) == set(TORCH)
    assert list(without_torch.timings) == [
        DEFAULT,
        NAIVE,
        f"{FULL}, {RUNTIME}, extrapolated",
        f"{SOLVER}, {RUNTIME}, extrapolated",
    ]


def test_random_weights_have_a_time_and_no_dice(options: StudyOptions) -> None:
    outcome = rivals.run(options, in_place_of_torch(same_weights=False))
    rows = {row["name"]: row for row in outcome.results["rivals"]}
    assert EAGER in outcome.timings and "mean" not in rows[EAGER] and "mean" in rows[NAIVE]
    assert any("random weights" in note for note in outcome.notes)


def test_another_run_s_weights_miss_the_aim_of_the_prior(options: StudyOptions) -> None:
    figures = rivals.run(options, in_place_of_torch(offset=0.1)).figures
    difference = next(figure for figure in figures if figure.name.startswith("largest difference of the prior"))
    assert difference.value == pytest.approx(0.1, abs=1e-4) and difference.met is False


def test_the_command_writes_a_record_a_page_and_a_picture(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals.run, "__defaults__", (no_torch,))
    options = StudyOptions(bundle=bundle, data=data, repeats=1, warmup=0, recipe_slices=2)
    record = running.run("rivals", options, output=tmp_path)
    assert "--recipe-slices 2" in record.command
    assert {"rivals.json", "rivals.md", "rivals.png"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "rivals.json").read_text("utf-8"))["results"]["rivals"][0]["name"] == DEFAULT
    page = (tmp_path / "rivals.md").read_text("utf-8")
    assert f"| {FULL}, {RUNTIME}, extrapolated |" in page and f"| {NAIVE} |" in page


def test_what_it_needs_is_asked_for(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set"):
        rivals.run(StudyOptions(), no_torch)
    with pytest.raises(DataError, match="no denoiser"):
        rivals.run(StudyOptions(bundle=write_tiny(tmp_path / "prior.verdiff", denoiser=False), data=data), no_torch)
