"""The case ``volume`` on a bundle of a few multiplications: stages, networks, first answers, Dice, aims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import AXIAL, mr_scan, numpy_segmenter
from tests.runtime.tiny_bundle import tiny_manifest, write_tiny
from verdiff.benchmarks import harness
from verdiff.benchmarks.cases import Figure, Findings, Options, volume
from verdiff.benchmarks.cost import Meter, RunCost
from verdiff.benchmarks.profile import Profile
from verdiff.benchmarks.timing import Timing
from verdiff.errors import InputError
from verdiff.imaging import Geometry, write_array
from verdiff.runtime import Segmenter

FAST = {"settings": [{"steps": 2, "samples": 1, "policy": "skip", "dice": 0.9, "name": "fast"}]}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE_S", 0)
    monkeypatch.setattr(volume, "matmul_gflops", lambda threads: 100.0 * threads)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Findings:
    """One run on a small scan whose reference is the default's own mask with a slice taken away."""
    folder: Path = tmp_path_factory.mktemp("volume")
    bundle = write_tiny(folder / "tiny.verdiff", frontier=FAST)
    scan = mr_scan()
    write_array(scan.array, scan, folder / "scan.nii.gz")
    labels = Segmenter.load(bundle, threads=1).segment(scan).labels
    truth = labels.copy()
    truth[0] = 0
    write_array(truth, scan, folder / "scan_seg.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "SETTLE_S", 0)
        patch.setattr(volume, "matmul_gflops", lambda threads: 100.0 * threads)
        options = Options(
            bundle=bundle, scan=folder / "scan.nii.gz", reference=folder / "scan_seg.nii.gz", repeats=3, warmup=1
        )
        return volume.run(options)


def test_every_backend_is_timed_with_its_default_the_fast_setting_and_the_first_answer(outcome):
    for backend in ("ONNX Runtime fp32", "OpenVINO fp32"):
        names = {backend, f"{backend}, fast"}
        assert names | {f"{name}, first answer" for name in names} <= set(outcome.timings)
        assert names <= set(outcome.stages)
    assert all(len(timing.seconds) == 3 for timing in outcome.timings.values())
    assert "OpenVINO int8" in outcome.left_out


def test_stages_do_not_overlap_and_the_networks_lie_within_them(outcome):
    for name, stages in outcome.stages.items():
        assert {"read", "prior", "loop", "restore", "write"} <= set(stages)
        networks = outcome.networks[name]
        for repeat, whole in enumerate(outcome.timings[name].seconds):
            assert sum(stage.seconds[repeat] for stage in stages.values()) <= whole
            assert networks["prior"].seconds[repeat] <= stages["prior"].seconds[repeat]
            assert networks["denoiser"].seconds[repeat] <= stages["loop"].seconds[repeat]


def test_the_work_is_that_of_the_setting(outcome):
    slices = outcome.work["OpenVINO fp32"].slices
    assert slices == 5
    assert outcome.work["ONNX Runtime fp32"].images == {"prior": slices, "denoiser": slices * 3 * 2}
    assert outcome.work["ONNX Runtime fp32, fast"].images["denoiser"] <= slices * 2
    assert outcome.work["ONNX Runtime fp32"].gflop["denoiser"] > 0


def test_dice_stands_beside_the_time(outcome):
    figures = {figure.name: figure for figure in outcome.figures}
    dice = figures["mean Dice, ONNX Runtime fp32"].value
    assert dice is not None and 0.5 < dice < 1
    assert f"| {dice:.4f} |" in outcome.page
    assert outcome.results["ONNX Runtime fp32"]["dice"] == dice


def test_memory_is_measured_and_the_aims_of_a_lumbar_volume_are_not_held_against_another_scan(outcome):
    figures = {figure.name: figure for figure in outcome.figures}
    peak = figures["peak memory of the process, OpenVINO fp32, fast"].value
    assert peak is not None and peak > 0.01
    assert figures["file to file, ONNX Runtime fp32, fast"].at_most is None
    assert figures["first prior mask after the call, ONNX Runtime fp32"].at_most is None
    limits = [figures[f"share outside the networks, OpenVINO fp32{each}"].at_most for each in ("", ", fast")]
    assert limits == [0.20, 0.15]


def test_a_full_resolution_lumbar_volume_is_told_from_other_scans():
    lumbar = mr_scan(18, 60, 60, pixel=0.47, step=4.0)
    manifest = tiny_manifest()
    assert volume.full_resolution_lumbar(lumbar, manifest)
    assert not volume.full_resolution_lumbar(mr_scan(18, 60, 60, pixel=0.9), manifest)
    assert not volume.full_resolution_lumbar(mr_scan(40, 60, 60, pixel=0.47), manifest)
    assert not volume.full_resolution_lumbar(lumbar, replace(manifest, modality="CT"))
    sideways = replace(lumbar, geometry=Geometry((60, 60, 18), (0.47, 0.47, 4.0), (0.0, 0.0, 0.0), AXIAL))
    assert not volume.full_resolution_lumbar(sideways, manifest)


def test_the_aims_of_a_lumbar_volume_are_the_fast_setting_s():
    backend = "ONNX Runtime fp32"
    meter_and_model = numpy_segmenter(frontier=FAST), Meter(None)
    times = timings(loop=(1.0,), prior=(1.0,), denoiser=(0.9,))
    aims = {}
    for policy in (None, "fast"):
        rival = volume.Rival(f"{backend} {policy}", backend, policy, *meter_and_model, Path("mask.nii.gz"))
        whole = {rival.name: Timing((2.0,)), volume.first_name(rival.name): Timing((0.5,))}
        networks = {name: times[name] for name in ("prior", "denoiser")}
        for figure in volume.figures_of(rival, whole, times, networks, lumbar=True):
            aims[figure.name.rpartition(",")[0], policy] = figure.at_most
    assert aims["file to file", "fast"] == 3.0
    assert aims["first prior mask after the call", "fast"] == 1.0
    assert aims["first prior mask after the call", None] is None
    assert ("file to file", None) not in aims


def timings(**seconds: tuple[float, ...]) -> dict[str, Timing]:
    return {name: Timing(each) for name, each in seconds.items()}


def test_the_share_outside_is_what_no_network_was_at_work_in():
    networks = timings(prior=(1.0, 1.0, 1.0), denoiser=(2.0, 6.0, 1.0))
    assert volume.outside_share(networks, Timing((4.0, 8.0, 4.0))) == pytest.approx(0.25)


def test_the_loop_s_overhead_is_what_it_takes_beside_its_network_over_both_networks():
    stages, networks = timings(loop=(2.5, 3.0)), timings(prior=(3.0, 3.0), denoiser=(2.0, 2.0))
    assert volume.loop_overhead(stages, networks) == pytest.approx(0.15)
    assert volume.loop_overhead(timings(loop=(0.0,)), timings(prior=(3.0,), denoiser=(0.0,))) is None


def test_what_is_short_of_its_aim_comes_with_a_profile_and_the_machine_s_limit():
    work = RunCost(10, {"prior": 10, "denoiser": 20}, {"prior": 100.0, "denoiser": 80.0})
    stages = {"read": 0.1, "prior": 1.1, "loop": 1.0, "fuse": 0.3}
    profile = Profile("ORT, fast", 2.6, stages, {"prior": 1.0, "denoiser": 0.8}, work, 150.0)
    figures = [
        Figure("file to file, ORT, fast", 2.6, "s", at_most=2.0),
        Figure("peak, ORT, fast", 1.0, "GB", at_most=1.5),
        Figure("file to file, other", 9.0, "s", at_most=2.0),
    ]
    (note,) = volume.short_of_aim(figures, {"ORT, fast": profile})
    assert "Short of its aim (file to file): ORT, fast takes 2.60 s" in note
    assert "prior network 1.00 s for 100 GFLOP (100 GFLOP/s)" in note
    assert "at the machine's limit they would take 1.20 s" in note
    assert "800.0 ms beside them, most of it 'fuse' (300.0 ms)" in note
    assert volume.short_of_aim(figures[1:], {"ORT, fast": profile}) == []


def test_without_counted_arithmetic_the_profile_has_times_alone():
    profile = Profile("a", 2.0, {"read": 0.1}, {"prior": 1.5, "denoiser": 0.0}, RunCost(1, {}, {}), 150.0)
    assert profile.said() == "a takes 2.00 s: prior network 1.50 s; 500.0 ms beside them, most of it 'read' (100.0 ms)"


def test_a_volume_case_without_a_scan_asks_for_one():
    with pytest.raises(InputError, match="no scan"):
        volume.run(Options())


def test_a_model_without_a_denoiser_has_no_loop_to_judge(tmp_path):
    bundle = write_tiny(tmp_path / "prior.verdiff", denoiser=False)
    scan = mr_scan()
    write_array(scan.array, scan, tmp_path / "scan.nii.gz")
    found = volume.run(Options(bundle=bundle, scan=tmp_path / "scan.nii.gz", repeats=1, warmup=0))
    assert not any("first answer" in name for name in found.timings)
    assert not any("overhead" in figure.name for figure in found.figures)
    assert np.isfinite(found.results["ONNX Runtime fp32"]["outside_s"])
