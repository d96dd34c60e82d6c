"""The case ``samplers``: the same passes for all, one run for samplers that are the same table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies import running
from studies.cases import samplers
from studies.cases.samplers import PASSES, SAMPLERS, STARTS, SamplerSetting, compare, settings
from studies.library.patients import PatientScorer, load_patients
from studies.library.runtime_slices import RuntimeSlices
from studies.options import StudyOptions
from studies.pages.samplers import markdown_page
from tests.benchmarks.tiny_fold import write_fold
from tests.runtime.tiny_bundle import tiny_manifest, write_tiny
from verdiff.diffusion import make_table
from verdiff.errors import DataError, InputError
from verdiff.runtime import Segmenter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fold(tmp_path_factory.mktemp("data") / "Dataset900_Tiny", folds=1)


def test_every_sampler_from_every_start_with_equal_passes() -> None:
    known = settings(tiny_manifest())
    assert {(each.start, each.passes, name) for each in known for name in each.samplers} == {
        (start, passes, name) for start in STARTS for passes in PASSES for name in SAMPLERS
    }
    assert all(len(each.table) == each.passes for each in known)
    assert len({each.name for each in known}) == len(known)


def test_with_one_pass_all_samplers_are_one_and_with_more_they_are_not() -> None:
    known = settings(tiny_manifest())
    assert [len(each.samplers) for each in known if each.passes == 1] == [3] * len(STARTS)
    assert {len(each.samplers) for each in known if each.passes == 8} == {1}


def test_warm_starts_begin_at_their_timestep_and_with_the_prior() -> None:
    manifest = tiny_manifest()
    warm = next(each for each in settings(manifest) if each.start == 300 and each.passes == 4)
    assert warm.table == make_table(manifest.process, sampler="ddim", steps=4, start="prior", start_step=300)


def test_ddpm_is_ddim_with_eta_1() -> None:
    process = tiny_manifest().process
    assert make_table(process, sampler="ddpm", steps=8) == make_table(process, sampler="ddim", steps=8, eta=1.0)


def test_dice_is_the_setting_s_and_differences_are_to_ddim_from_noise(bundle: Path, data: Path) -> None:
    segmenter = Segmenter.load(bundle, threads=2)
    patients = load_patients(segmenter, data, 0, say=lambda line: None)
    known = [each for each in settings(segmenter.manifest) if each.passes == 4]
    with RuntimeSlices(segmenter) as slices:
        result, timings = compare(slices, patients, known)
        warm: SamplerSetting = next(each for each in known if each.start == 200)
        alone = slices.answer(warm.table)(patients[1].image, range(len(patients[1].image)))
    rows = {(tuple(row["samplers"]), row["start"]): row for row in result["settings"]}
    baseline, row = rows[("DDIM",), None], rows[warm.samplers, 200]
    assert row["patients"]["p1"] == PatientScorer(segmenter).dice(patients[1], alone)
    assert row["difference"]["mean"] == pytest.approx(row["mean"] - baseline["mean"])
    assert baseline["difference"]["mean"] == 0 and baseline["difference"]["p_value"] == 1
    assert set(timings) == {each.name for each in known}
    assert all(len(timing.seconds) == 2 for timing in timings.values())
    page = markdown_page(result)
    assert "| 4 | the prior at 200 | DDIM |" in page and "Best with 4:" in page


def test_the_command_writes_a_record_a_page_and_a_picture(bundle: Path, data: Path, tmp_path: Path) -> None:
    record = running.run("samplers", StudyOptions(bundle=bundle, data=data, every=3), output=tmp_path)
    assert record.outcome.baseline is None
    assert {"samplers.json", "samplers.md", "samplers.png"} <= {path.name for path in tmp_path.iterdir()}
    stored = json.loads((tmp_path / "samplers.json").read_text("utf-8"))
    assert len(stored["results"]["settings"]) == len(settings(tiny_manifest()))


def test_what_it_needs_is_asked_for(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set"):
        samplers.run(StudyOptions())
    with pytest.raises(DataError, match="no denoiser"):
        samplers.run(StudyOptions(bundle=write_tiny(tmp_path / "prior.verdiff", denoiser=False), data=data))
