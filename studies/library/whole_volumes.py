"""A model of verdiff on whole scans, as a fresh process runs it: file to mask, and a recipe's time by its pieces."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from studies.library.patients import patient_of
from studies.library.recipes import STEPS_TIMED, recipes
from studies.library.runtime_slices import RuntimeSlices
from verdiff.evaluate.fold import LabelledScan
from verdiff.imaging import read_volume, write_array
from verdiff.runtime import Segmenter


def segment_volumes(
    model: str, scans: list[str], masks: list[str], threads: int, precision: str, options: dict[str, Any]
) -> list[float]:
    """Load, then each scan from file to mask; its seconds, loading left out.

    Args:
        model: A bundle.
        scans: Files.
        masks: Where each mask goes.
        threads: CPU threads.
        precision: Precision, as :meth:`verdiff.runtime.Segmenter.load` has it.
        options: Options of each call, as :meth:`verdiff.runtime.Segmenter.segment` has them.
    """
    segmenter = Segmenter.load(model, threads=threads, precision=precision)
    return [_file_to_file(segmenter, Path(scan), Path(mask), options) for scan, mask in zip(scans, masks, strict=True)]


def recipe_volumes(model: str, scans: list[str], masks: list[str], threads: int, number: int) -> list[float]:
    """Seconds that each scan would take with a recipe: the call with one step, and all further steps extrapolated.

    The further steps are timed on slices in the middle of the scan, ``STEPS_TIMED`` of them at once.

    Args:
        model: A bundle of a model with a denoiser.
        scans: Files.
        masks: Where the mask of the call with one step goes.
        threads: CPU threads.
        number: Number of the recipe, in :func:`studies.library.recipes.recipes`.
    """
    segmenter = Segmenter.load(model, threads=threads)
    recipe = recipes(segmenter.manifest)[number]
    seconds = []
    for scan, mask in zip(scans, masks, strict=True):
        whole = _file_to_file(segmenter, Path(scan), Path(mask), {"steps": 1, "samples": 1})
        volume = read_volume(scan)
        patient = patient_of(segmenter, LabelledScan(scan, volume, np.zeros(volume.array.shape, np.uint8)))
        with RuntimeSlices(segmenter) as slices:
            count = min(slices.lanes.count, len(patient.image))
            first = (len(patient.image) - count) // 2
            images, numbers = patient.image[first : first + count], list(range(first, first + count))
            taken = []
            for steps in (1, 1 + STEPS_TIMED):
                answer = slices.answer(recipe.table, stop_after=steps)
                begun = time.perf_counter()
                answer(images, numbers)
                taken.append(time.perf_counter() - begun)
        a_step = (taken[1] - taken[0]) / STEPS_TIMED / count
        seconds.append(whole + (recipe.samples * len(recipe.table) - 1) * a_step * len(patient.image))
    return seconds


def _file_to_file(segmenter: Segmenter, scan: Path, mask: Path, options: dict[str, Any]) -> float:
    begun = time.perf_counter()
    volume = read_volume(scan)
    write_array(segmenter.segment(volume, **options).labels, volume, mask)
    return time.perf_counter() - begun
