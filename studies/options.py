"""What a study on a loaded model is run with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from verdiff.benchmarks.cases import Options
from verdiff.bundle import Manifest
from verdiff.errors import DataError, InputError
from verdiff.runtime import Segmenter


@dataclass(frozen=True)
class StudyOptions(Options):
    """The options of a benchmark's case, and those of the studies.

    Attributes:
        every: Every how-manieth slice of the patients is taken; in ``scaling`` what the scans' lengths are divided by.
        recipe_slices: Slices, in all, on which ``rivals`` really runs the thousand-step recipe.
        nnunet: What ``verdiff train nnunet --nnunetv2`` left, for ``side-by-side``.
        medsegdiff: A bundle of MedSegDiff, for the same.
        requests: Requests that ``endurance`` makes.
    """

    every: int = 1
    recipe_slices: int = 1
    nnunet: Path | None = None
    medsegdiff: Path | None = None
    requests: int = 1000

    @property
    def data_set(self) -> Path:
        """The data set.

        Raises:
            InputError: None was given.
        """
        if self.data is None:
            raise InputError("no data set", "an nnU-Net raw data set to score on", "name one")
        return self.data

    def subject(self, segmenter: Segmenter, slices: int) -> dict[str, str]:
        """What a record says was run: model, data, slices, backend."""
        manifest = segmenter.manifest
        return {
            "model": f"{manifest.model_id} {manifest.version}",
            "data": f"{self.data_set.name}, validation cases of fold {self.fold}",
            "slices": f"{slices} (every {self.every})",
            "backend": f"{segmenter.backend.name}, {segmenter.backend.precision}, {self.threads} threads",
        }


def require_denoiser(manifest: Manifest, *, there: bool) -> None:
    """Refuse a model without a denoiser.

    Raises:
        DataError: It is not ``there``.
    """
    if not there:
        raise DataError(
            f"{manifest.model_id} has no denoiser", "a diffusion model", "time it with 'verdiff bench volume'"
        )
