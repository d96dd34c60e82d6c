"""The cases on a bundle of a few multiplications: what they run, compare and leave out. No figure is asserted."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import NumpyBackend, denoiser_graph, write_tiny
from verdiff.benchmarks import harness
from verdiff.benchmarks.cases import CASES, Options, denoiser_step, run_case, startup, volume
from verdiff.benchmarks.flops import graph_gflop
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.running import listing, run
from verdiff.benchmarks.torch_rival import StepInputs, TorchRival
from verdiff.errors import BackendError, DataError, InputError
from verdiff.imaging import write_array


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE_S", 0)
    for case in (denoiser_step, volume):
        monkeypatch.setattr(case, "matmul_gflops", lambda threads: 100.0 * threads)


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
    speeds = {figure.name: figure.value for figure in outcome.figures}
    step = speeds["GFLOP of the step"]
    assert step == pytest.approx(graph_gflop(denoiser_graph(), 32, 24))
    assert speeds["GFLOP/s, OpenVINO fp32"] == pytest.approx(step / outcome.timings["OpenVINO fp32"].median)


def test_with_several_threads_a_step_is_also_timed_for_slices_at_once(options):
    outcome = denoiser_step.run(replace(options, threads=2), numpy_as_torch())
    assert "OpenVINO fp32, 2 slices at once" in outcome.timings
    assert denoiser_step.LANES_NOTE in outcome.notes
    compared = [figure.name for figure in outcome.figures if "difference" in figure.name]
    assert any("2 slices at once" in name for name in compared)
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


def test_outputs_are_compared_with_the_first_and_fewer_bits_by_their_mean():
    base = np.zeros((1, 1, 2, 2), np.float32)
    odd = base.copy()
    odd[..., 0, 0] = 0.1
    outputs = {"a": base, "b": odd, "c bf16": odd, "d int8": base + 0.5, "e": base * np.nan}
    figures, notes = denoiser_step.agreement(outputs)
    assert [figure.value for figure in figures[:3]] == pytest.approx([0.1, 0.025, 0.5])
    assert [note.partition(" ")[0] for note in notes] == ["b", "d", "e"]


def test_startup_launches_each_command_once_a_round(options):
    launched: list[tuple[str, ...]] = []
    outcome = startup.run(options, lambda arguments: launched.append(tuple(arguments)))
    assert [launched.count(arguments) for arguments in startup.COMMANDS.values()] == [3, 3, 3, 3]
    assert {figure.name: figure.at_most for figure in outcome.figures} == startup.AIMS_S


def test_with_a_scan_startup_times_the_first_mask_from_the_start_of_the_process(options, bundle, tmp_path):
    scan = mr_scan()
    write_array(scan.array, scan, tmp_path / "scan.nii.gz")
    launched: list[tuple[str, ...]] = []
    outcome = startup.run(
        replace(options, scan=tmp_path / "scan.nii.gz", repeats=1, warmup=0),
        lambda arguments: launched.append(tuple(arguments)),
    )
    assert set(outcome.timings) == {*startup.COMMANDS, startup.INFER, *outcome.stages}
    infer = next(arguments for arguments in launched if "infer" in arguments)
    assert str(bundle) in infer and infer[-2] == "--model"
    for name, stages in outcome.stages.items():
        assert list(stages) == ["start", "import", "load", "read", "segment", "write"]
        assert all(seconds > 0 for stage in stages.values() for seconds in stage.seconds)
        assert outcome.timings[name].seconds == pytest.approx(
            [sum(r) for r in zip(*(s.seconds for s in stages.values()), strict=True)]
        )
        second = next(f for f in outcome.figures if f.name == f"second call in the same process, {name}")
        assert second.value is not None and second.value > 0
    assert "OpenVINO int8" in outcome.left_out


def test_the_infer_that_startup_launches_writes_a_mask(bundle, tmp_path):
    scan = mr_scan()
    write_array(scan.array, scan, tmp_path / "scan.nii.gz")
    arguments = ("infer", str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "mask.nii.gz"), "--model", str(bundle))
    startup.launch(("-c", startup.CLI, *arguments))
    assert (tmp_path / "mask.nii.gz").is_file()


def test_a_command_that_fails_is_an_error_with_its_last_line():
    with pytest.raises(BackendError, match="No module named 'no_such_module'"):
        startup.launch(("-c", "import no_such_module"))


def test_what_a_doctor_finds_is_no_failure_of_the_benchmark_and_a_crash_is(tmp_path):
    empty = str(tmp_path / "nothing.verdiff")
    startup.launch(("-c", startup.FINDING, "doctor", "--model", empty))
    with pytest.raises(BackendError, match="ended with code 2"):
        startup.launch(("-c", startup.FINDING, "doctor", "--no-such-option"))


def test_the_commands_of_startup_end_well():
    for arguments in startup.COMMANDS.values():
        startup.launch(arguments)


def test_the_command_runs_a_case_says_its_page_and_writes_its_record(tmp_path, bundle, mr_sample):
    lines: list[str] = []
    options = Options(bundle=bundle, scan=mr_sample, repeats=1, warmup=0, say=lines.append)
    record = run("volume", options, output=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "volume.json",
        "volume.csv",
        "volume.md",
        "volume.png",
    }
    assert record_page(record) in lines
    assert str(tmp_path) not in (tmp_path / "out" / "volume.json").read_text("utf-8")


def test_list_names_every_case():
    assert [line.split()[0] for line in listing().splitlines()] == list(CASES)
