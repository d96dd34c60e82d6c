"""Real slices for the gate: from a folder of scans, or those a training run put aside."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from verdiff.bundle import Manifest
from verdiff.errors import DataError, InputError, UnsuitableScanError
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.precision.networks import PatientSlices
from verdiff.imaging import intensity_bounds, normalise, read_volume
from verdiff.imaging.atomic import full_suffix
from verdiff.imaging.dicom_header import begins_as_dicom
from verdiff.imaging.picture import picture_of
from verdiff.imaging.reading import DICOM_SUFFIXES, FILM_SUFFIXES, MEDICAL_SUFFIXES, NIFTI_SUFFIXES
from verdiff.runtime.scan import slices_of
from verdiff.runtime.suitability import unsuitable_reasons
from verdiff.train.data.cases import VERIFICATION_SLICES

SLICES_A_PATIENT = 3
MOST_PATIENTS = 8
SCAN_SUFFIXES = (*NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES, *DICOM_SUFFIXES)
# What verdiff and data sets write beside a scan and call after it; VerSe and BIDS say what was segmented, too.
BESIDE = re.compile(r".*[_-](seg|seg-\w+_msk|msk|mask|dseg|label|labels|uncertainty|preview|instances)", re.IGNORECASE)
CHANNEL = re.compile(r"(.+)_\d{4}")
# A slice of a mask has a value for each structure, a slice of a scan hundreds.
MOST_MASK_VALUES = 32


@dataclass(frozen=True)
class Chosen:
    """What a folder of scans gives.

    Attributes:
        judged: Patients for the gate.
        calibration: Other patients, to calibrate on.
        seen: How many of those in ``judged`` the model may have been trained on, as far as the manifest says.
    """

    judged: list[PatientSlices]
    calibration: list[PatientSlices] = field(default_factory=list)
    seen: int = 0


def scans_in(folder: Path) -> dict[str, Path]:
    """The scans of a folder by case: every file and DICOM folder that ``verdiff infer`` reads, but for masks.

    Raises:
        DataError: No folder, no scan in it, or two files of one case.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    stems = {path: _stem(path) for path in entries if not path.name.startswith(".") and _is_scan(path)}
    masks = [path for path, stem in stems.items() if BESIDE.fullmatch(stem)]
    stems = {path: stem for path, stem in stems.items() if path not in masks}
    # nnU-Net numbers the channels of a case from 0 on. Where several names have a 0, the numbers are channels.
    channels = sum(stem.endswith("_0000") for stem in stems.values()) > 1
    named: dict[str, Path] = {}
    for path, stem in stems.items():
        found = CHANNEL.fullmatch(stem) if channels or stem.endswith("_0000") else None
        other = named.setdefault(found[1] if found else stem, path)
        if other is not path:
            raise DataError(
                f"{other.name} and {path.name} in {folder}, two files of one case",
                "one scan a patient",
                "move one of them out of the folder of --scans",
            )
    if not named:
        raise DataError(
            f"no scans in {folder}" + (f" beside {masks[0].name}, which is called as a mask is" if masks else ""),
            f"a folder of scans, one a patient: {', '.join(SCAN_SUFFIXES)}, or a DICOM folder for each",
            "check --scans",
        )
    return named


def slices_of_scans(folder: Path, manifest: Manifest, say: Callable[[str], None]) -> Chosen:
    """A few slices of the scans in ``folder``, one scan a patient, as the runtime gives them to the networks.

    The gate judges the cases that the model's training put aside for validation, topped up to six with others where
    the folder holds fewer. Calibration is on what is left, never on a case that was put aside.

    Raises:
        DataError: No folder, no scan in it, two files of one case, or the same pixels under two names.
        InputError: A scan that cannot be read, or a mask in the place of one.
        UnsuitableScanError: A scan that does not look like the model's training data.
    """
    named = scans_in(folder)
    kept = manifest.training.get("validation_cases", ())
    aside = [name for name in (kept if isinstance(kept, list | tuple) else ()) if name in named]
    judged, spare = choose(named, aside)
    say(f"the gate's patients: {', '.join(judged)}")
    seen = tuple(name for name in judged if name not in aside)
    if seen:
        say(f"of these the model may have been trained on {', '.join(seen)}: not among the cases it put aside")
    patients: dict[str, PatientSlices] = {}
    pixels: dict[str, str] = {}
    for name in (*judged, *spare):
        patients[name], digest = _read(name, named[name], manifest)
        other = pixels.setdefault(digest, name)
        if other != name:
            raise DataError(
                f"{named[other].name} and {named[name].name} in {folder} have the same pixels",
                "another patient in every scan",
                "leave one of the copies in the folder of --scans",
            )
    return Chosen([patients[name] for name in judged], [patients[name] for name in spare], len(seen))


def choose(names: Collection[str], aside: list[str]) -> tuple[list[str], list[str]]:
    """Cases for the gate and others to calibrate on: those put ``aside`` first, topped up to six in order of name."""
    others = sorted(name for name in names if name not in aside)
    judged = aside[:MOST_PATIENTS]
    needed = max(0, LEAST_PATIENTS - len(judged))
    return judged + others[:needed], others[needed:][:MOST_PATIENTS]


def _read(name: str, path: Path, manifest: Manifest) -> tuple[PatientSlices, str]:
    """Slices of one scan on the model's grid, evenly spaced without the outermost (muscle), and its pixels' hash.

    As in a call, dark margins are cut off first: they would move the intensities and the network's grid of pixels.
    """
    volume = read_volume(path)
    reasons = unsuitable_reasons(volume, manifest, slices_of(manifest, volume.geometry))
    if reasons:
        raise UnsuitableScanError(
            f"{path} does not look like the training data: {'; '.join(reasons)}",
            f"scans that {manifest.model_id} is for",
            "move it out of the folder of --scans",
        )
    picture = picture_of(volume.array)
    plan = slices_of(manifest, volume.geometry, picture)
    at = np.unique((np.arange(1, SLICES_A_PATIENT + 1) * plan.slices) // (SLICES_A_PATIENT + 1))
    planes = plan.extract(volume.array)[at]
    values = np.unique(planes)
    if len(values) <= MOST_MASK_VALUES and np.array_equal(values, np.rint(values)):
        raise InputError(
            f"{path} has {len(values)} different values in {len(at)} slices, as a mask has",
            "a scan",
            "name the folder of the scans with --scans, or move the mask out of it",
        )
    bounds = intensity_bounds(volume.array[picture], manifest.intensity)
    digest = hashlib.sha256(np.ascontiguousarray(volume.array, np.float32).data).hexdigest()
    return PatientSlices(name, plan.to_model(normalise(planes, *bounds))), digest


def _is_scan(path: Path) -> bool:
    if path.is_dir():
        return any(each.is_file() and _is_dicom(each) for each in sorted(path.iterdir()))
    return path.is_file() and (full_suffix(path) in SCAN_SUFFIXES or _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    try:
        return begins_as_dicom(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened: {error.strerror or error}", "a readable file", "check its permissions"
        ) from error


def _stem(path: Path) -> str:
    suffix = full_suffix(path)
    return path.name[: -len(suffix)] if suffix in SCAN_SUFFIXES and not path.is_dir() else path.name


def chosen_of_run(run: Path, manifest: Manifest, say: Callable[[str], None]) -> Chosen:
    """The slices of a run's validation patients, and how many of these it or its first weights were trained on.

    Raises:
        DataError: The run holds none.
    """
    judged, training = slices_of_run(run, manifest.multiple), manifest.training
    before = training.get("trained_from", {}).get("trained_on", ())
    seen = len(judged) if training["fold"] == "all" else min(len(judged), len(before))
    if seen:
        say(f"of the {len(judged)} patients of the gate the model may have been trained on {seen}")
    return Chosen(judged, seen=seen)


def slices_of_run(run: Path, multiple: int) -> list[PatientSlices]:
    """The middle slice of up to six of the patients whom a run validates on, padded to the network's multiple.

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
    return [PatientSlices(f"validation patient {i + 1}", plane[None, None]) for i, plane in enumerate(padded)]
