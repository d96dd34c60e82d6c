"""Real slices for the gate: from a folder of scans, or those a training run put aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from verdiff.bundle import Manifest
from verdiff.errors import DataError
from verdiff.evaluate.cases import case_name
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.precision.networks import Patient
from verdiff.imaging import IntensityRule, intensity_bounds, normalise, plan_slices, read_volume
from verdiff.train.data.cases import VERIFICATION_SLICES

SLICES_A_PATIENT = 3
MOST_PATIENTS = 8
SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg")


def slices_of_scans(
    folder: Path, manifest: Manifest, say: Callable[[str], None]
) -> tuple[list[Patient], list[Patient]]:
    """A few slices of the scans in ``folder``, one scan a patient, as the runtime gives them to the networks.

    Returns:
        Patients for the gate, and others to calibrate on. For the gate: the cases that the model's training put aside
        for validation where the folder holds them, else the first six; what is left is for calibration.

    Raises:
        DataError: No folder, or no scan in it.
        InputError: A scan that cannot be read.
    """
    scans = sorted(folder.iterdir()) if folder.is_dir() else []
    named = {case_name(path): path for path in scans if path.name.lower().endswith(SCAN_SUFFIXES)}
    if not named:
        raise DataError(f"no scans in {folder}", "a folder of scans, one a patient", "check --scans")
    aside = [name for name in manifest.training.get("validation_cases", ()) if name in named]
    judged = aside[:MOST_PATIENTS] or sorted(named)[:LEAST_PATIENTS]
    spare = [name for name in sorted(named) if name not in judged and name not in aside][:MOST_PATIENTS]
    say(f"the gate's patients: {', '.join(judged)}")
    return [slices_of(named[name], manifest) for name in judged], [slices_of(named[name], manifest) for name in spare]


def slices_of(path: Path, manifest: Manifest) -> Patient:
    """A few slices of one scan on the model's grid, at even distances, the outermost left out: they show muscle."""
    volume = read_volume(path, modality=manifest.modality)
    plan = plan_slices(
        volume.geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=manifest.spacing_mm,
        multiple=manifest.multiple,
    )
    at = np.unique((np.arange(1, SLICES_A_PATIENT + 1) * plan.slices) // (SLICES_A_PATIENT + 1))
    bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
    return Patient(case_name(path), plan.to_model(normalise(plan.extract(volume.array)[at], *bounds)))


def slices_of_run(run: Path, multiple: int) -> list[Patient]:
    """The middle slice of each validation patient that the run put aside, padded to the network's multiple.

    Raises:
        DataError: The run holds none.
    """
    path = run / VERIFICATION_SLICES
    if not path.is_file():
        raise DataError(f"the run has no {path.name}", "the slices its training put aside", "export a complete run")
    with np.load(path, allow_pickle=False) as arrays:
        planes = arrays["images"].astype(np.float32)
    pads = ((0, 0), (0, -planes.shape[1] % multiple), (0, -planes.shape[2] % multiple))
    padded = np.pad(planes, pads, constant_values=-1)
    return [Patient(f"validation patient {i + 1}", plane[None, None]) for i, plane in enumerate(padded)]
