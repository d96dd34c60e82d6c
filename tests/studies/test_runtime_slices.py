"""What the cases time is what a user gets: the Segmenter's own probabilities, however many lanes there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.library.patients import StudyPatient, load_patients
from studies.library.runtime_slices import RuntimeSlices
from tests.benchmarks.tiny_fold import write_fold
from verdiff.imaging import read_volume
from verdiff.runtime import Segmenter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fold(tmp_path_factory.mktemp("data") / "Dataset900_Tiny", folds=1)


def first_patient(segmenter: Segmenter, data: Path) -> StudyPatient:
    return load_patients(segmenter, data, 0, say=lambda line: None)[0]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_default_is_the_segmenter_s_mask_in_any_number_of_lanes(bundle: Path, data: Path, threads: int) -> None:
    segmenter = Segmenter.load(bundle, threads=threads)
    patient = first_patient(segmenter, data)
    defaults, table = segmenter.manifest.defaults, segmenter.manifest.table
    result = segmenter.segment(read_volume(data / "imagesTr" / "p0_0000.nii.gz"), force=True)
    expected = result.probabilities("vertebra")
    with RuntimeSlices(segmenter) as slices:
        found = slices.answer(table, defaults.samples)(patient.image, range(len(patient.image)))
        apart = slices.sampled(slices.conditions(patient.image), range(len(patient.image)), table, defaults.samples)
    half = found[:, :1].astype(np.float16).astype(np.float32)
    restored = patient.plan.insert(patient.plan.from_model(half)[:, 0])
    np.testing.assert_array_equal(restored, expected)
    np.testing.assert_array_equal(apart, found)


def test_a_slice_keeps_its_noise_wherever_it_stands_in_the_stack(bundle: Path, data: Path) -> None:
    segmenter = Segmenter.load(bundle, threads=1)
    patient, table = first_patient(segmenter, data), segmenter.manifest.table
    with RuntimeSlices(segmenter) as slices:
        whole = slices.answer(table)(patient.image, [0, 1, 2])
        last = slices.answer(table)(patient.image[2:], [2])
        other = slices.answer(table)(patient.image[2:], [0])
    np.testing.assert_array_equal(last[0], whole[2])
    assert not np.array_equal(other[0], whole[2])


def test_a_run_ends_after_the_steps_it_is_given(bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter.load(bundle, threads=1)
    calls: list[int] = []
    denoise = segmenter.backend.denoise

    def counted(x, timestep, prior, features):  # type: ignore[no-untyped-def]
        calls.append(timestep)
        return denoise(x, timestep, prior, features)

    monkeypatch.setattr(segmenter.backend, "denoise", counted)
    patient, table = first_patient(segmenter, data), segmenter.manifest.table
    with RuntimeSlices(segmenter) as slices:
        slices.answer(table, 2, stop_after=2)(patient.image[:1], [0])
    assert calls == table.timesteps.tolist()[:2] * 2
