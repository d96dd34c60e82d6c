"""Real slices for the gate: from a folder of scans, or those a training run put aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from verdiff.bundle import Manifest
from verdiff.errors import DataError
from verdiff.evaluate.cases import case_name
from verdiff.export.precision.networks import Patient
from verdiff.imaging import IntensityRule, intensity_bounds, normalise, plan_slices, read_volume
from verdiff.train.data.cases import VERIFICATION_SLICES

SLICES_A_PATIENT = 3
MOST_PATIENTS = 8
SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg")


def slices_of_scans(folder: Path, manifest: Manifest, say: Callable[[str], None]) -> list[Patient]:
    """A few slices of every scan in ``folder``, one scan a patient, as the runtime gives them to the networks.

    Where the folder holds cases that the model's training put aside for validation, only those are taken.

    Raises:
        DataError: No folder, or no scan in it.
        InputError: A scan that cannot be read.
    """
    scans = sorted(folder.iterdir()) if folder.is_dir() else []
    named = {case_name(path): path for path in scans if path.name.lower().endswith(SCAN_SUFFIXES)}
    if not named:
        raise DataError(f"no scans in {folder}", "a folder of scans, one a patient", "check --scans")
    aside = [name for name in manifest.training.get("validation_cases", ()) if name in named]
    chosen = aside or sorted(named)
    patients = []
    for name in chosen[:MOST_PATIENTS]:
        volume = read_volume(named[name], modality=manifest.modality)
        plan = plan_slices(
            volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        # At even distances, the outermost ones left out: they show muscle.
        at = (np.arange(1, SLICES_A_PATIENT + 1) * plan.slices) // (SLICES_A_PATIENT + 1)
        bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
        planes = normalise(plan.extract(volume.array)[np.unique(at)], *bounds)
        patients.append(Patient(name, plan.to_model(planes)))
        say(f"{name}: {len(planes)} slices of {plan.padded_rows} x {plan.padded_cols}")
    return patients


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
