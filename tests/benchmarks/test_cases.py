"""The cases on a bundle of a few multiplications: what they run, compare and leave out. No figure is asserted."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.tiny_bundle import NumpyBackend, write_tiny
from verdiff.benchmarks import harness
from verdiff.benchmarks.cases import CASES, Options, denoiser_step, run_case, startup, volume
from verdiff.benchmarks.command import run
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.timing import Timing
from verdiff.benchmarks.torch_rival import StepInputs, TorchRival
from verdiff.errors import BackendError, DataError, InputError


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE_S", 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundle") / "tiny.verdiff")


@pytest.fixture
def options(bundle) -> Options:
    return Options(bundle=bundle, repeats=2, warmup=1, size=(30, 21))


def numpy_as_torch(offset: float = 0.0, same_weights: bool = True):
    def step(inputs: StepInputs, channels_last: bool):
        return lambda: offset + NumpyBackend().denoise(inputs.x, inputs.timestep, inputs.prior, inputs.features)

    return lambda bundle, training_run, threads: TorchRival(step, same_weights)


def no_torch(bundle, training_run, threads):
    raise BackendError("torch is not installed", "PyTorch for this rival", "pip install torch")


@pytest.mark.parametrize("name", CASES)
def test_every_listed_case_is_a_module_that_runs(name):
    module = importlib.import_module(f"verdiff.benchmarks.cases.{name.replace('-', '_')}")
    assert callable(module.run)


def test_an_unknown_case_lists_those_there_are():
    with pytest.raises(InputError, match=", ".join(CASES)):
        run_case("loop", Options())


def test_a_step_is_timed_in_every_backend_against_eager(options):
    outcome = denoiser_step.run(options, numpy_as_torch())
    assert outcome.baseline == denoiser_step.EAGER
    assert set(outcome.timings) | set(outcome.left_out) == {
        denoiser_step.EAGER,
        denoiser_step.CHANNELS_LAST,
        *denoiser_step.BACKENDS,
    }
    assert {"ONNX Runtime fp32", "OpenVINO fp32"} <= set(outcome.timings)
    assert outcome.notes == ()
    assert outcome.subject["input"].startswith("1 slice of 32 x 24 pixels")


def test_a_rival_that_computes_something_else_is_named(options):
    outcome = denoiser_step.run(options, numpy_as_torch(offset=0.5))
    assert any("ONNX Runtime fp32 differs from PyTorch eager fp32 by 0.5" in note for note in outcome.notes)


def test_random_weights_are_timed_and_not_compared(options):
    outcome = denoiser_step.run(options, numpy_as_torch(offset=0.5, same_weights=False))
    assert denoiser_step.EAGER in outcome.timings
    assert outcome.notes == ("PyTorch runs the same network with random weights: no training run was given.",)


def test_without_torch_the_backends_are_compared_with_each_other(options):
    outcome = denoiser_step.run(options, no_torch)
    assert outcome.baseline == "ONNX Runtime fp32"
    assert outcome.left_out[denoiser_step.EAGER].startswith("torch is not installed")
    assert outcome.aims == {}


def test_a_model_without_a_denoiser_has_no_step_to_time(tmp_path):
    with pytest.raises(DataError, match="no denoiser"):
        denoiser_step.run(Options(bundle=write_tiny(tmp_path / "prior.verdiff", denoiser=False)), no_torch)


def test_outputs_are_compared_with_the_first_and_bf16_with_more_patience():
    base = np.zeros((1, 1, 2, 2), np.float32)
    figures, notes = denoiser_step.agreement({"a": base, "b": base + 0.5, "c bf16": base + 0.5, "d": base * np.nan})
    assert [figure.value for figure in figures[:2]] == [0.5, 0.5]
    assert [note.partition(" ")[0] for note in notes] == ["b", "d"]


def test_a_scan_is_timed_from_file_to_file_by_stage_with_its_peak_memory(options, bundle, mr_sample):
    outcome = volume.run(Options(bundle=bundle, scan=mr_sample, repeats=2, warmup=1))
    for name, timing in outcome.timings.items():
        stages = outcome.stages[name]
        assert {"read", "prior", "denoiser", "restore", "write"} <= set(stages)
        assert all(len(stage.seconds) == len(timing.seconds) == 2 for stage in stages.values())
        apart = [stage.seconds for label, stage in stages.items() if label != "denoiser"]
        assert all(sum(parts) <= whole for parts, whole in zip(zip(*apart, strict=True), timing.seconds, strict=True))
    peaks = [figure for figure in outcome.figures if figure.name.startswith("peak memory")]
    assert len(peaks) == len(outcome.timings)
    assert all(figure.value is not None and figure.value > 0.01 for figure in peaks)
    assert outcome.subject["scan"] == mr_sample.name


def test_the_share_outside_the_networks_is_the_median_over_repeats():
    stages = {"prior": Timing((1.0, 1.0, 1.0)), "loop": Timing((9.0, 9.0, 9.0)), "denoiser": Timing((2.0, 6.0, 1.0))}
    assert volume.outside_share(stages, Timing((4.0, 8.0, 4.0))) == pytest.approx(0.25)


def test_a_volume_case_without_a_scan_asks_for_one(options):
    with pytest.raises(InputError, match="no scan"):
        volume.run(options)


def test_startup_launches_each_command_once_a_round(options):
    launched: list[tuple[str, ...]] = []
    outcome = startup.run(options, launched.append)
    assert [launched.count(arguments) for arguments in startup.COMMANDS.values()] == [3, 3, 3]
    assert {figure.name: figure.at_most for figure in outcome.figures} == startup.AIMS_S


def test_a_command_that_fails_is_an_error_with_its_last_line():
    with pytest.raises(BackendError, match="No module named 'no_such_module'"):
        startup.launch(("-c", "import no_such_module"))


def test_the_commands_of_startup_end_well():
    for arguments in startup.COMMANDS.values():
        startup.launch(arguments)


def test_the_command_runs_a_case_says_its_page_and_writes_its_record(tmp_path, bundle, mr_sample):
    lines: list[str] = []
    record = run(
        "volume",
        model=bundle,
        scan=mr_sample,
        output=tmp_path / "out",
        repeats=1,
        warmup=0,
        threads=1,
        say=lines.append,
    )
    assert record is not None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "volume.json",
        "volume.csv",
        "volume.md",
        "volume.png",
    }
    assert record_page(record) in lines
    assert str(tmp_path) not in (tmp_path / "out" / "volume.json").read_text()


def test_list_names_every_case():
    lines: list[str] = []
    assert run("list", say=lines.append) is None
    assert [line.split()[0] for line in lines] == list(CASES)
