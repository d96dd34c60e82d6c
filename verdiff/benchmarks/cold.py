"""From nothing to the first mask: a fresh process, timed from its start, and what its second call takes.

Nothing of verdiff but the harness is imported before the clock runs, so that importing the runtime is a stage too.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from verdiff.benchmarks.fresh import run_fresh

STARTED_BY = f"{__name__}:first_mask"


class ColdStart:
    """One backend in one fresh process after another.

    Args:
        scan: What is segmented.
        mask: Where the mask is written.
        model: The bundle.
        backend: Backend of the runtime.
        precision: Precision of the networks.
        threads: Threads of the processor.

    Attributes:
        stages: Seconds of every run from the start of the process to the mask, stage by stage.
        second_s: Seconds of a second call in the same process, of every run.
    """

    def __init__(self, scan: Path, mask: Path, model: Path, backend: str, precision: str, threads: int) -> None:
        paths = {"scan": str(scan), "mask": str(mask), "model": str(model)}
        self._task: dict[str, Any] = {**paths, "backend": backend, "precision": precision, "threads": threads}
        self.stages: list[dict[str, float]] = []
        self.second_s: list[float] = []

    def run(self) -> None:
        """One process.

        Raises:
            VerdiffError: What the process raised: the backend is not there, the scan cannot be used.
        """
        # The monotonic clock counts from the start of the machine, alike in every process.
        since = time.monotonic()
        marks: dict[str, float] = run_fresh(STARTED_BY, self._task).result
        self.second_s.append(marks.pop("second_s"))
        stages = {}
        for name, mark in marks.items():
            stages[name], since = mark - since, mark
        self.stages.append(stages)


def first_mask(scan: str, mask: str, model: str, backend: str, precision: str, threads: int) -> dict[str, float]:
    """What the fresh process runs: the monotonic clock after each stage, and seconds of a second call."""
    marks = {"start": time.monotonic()}
    from verdiff.imaging import read_volume, write_array
    from verdiff.runtime import Segmenter

    marks["import"] = time.monotonic()
    segmenter = Segmenter.load(model, backend=backend, precision=precision, threads=threads)
    marks["load"] = time.monotonic()
    volume = read_volume(scan)
    marks["read"] = time.monotonic()
    result = segmenter.segment(volume)
    marks["segment"] = time.monotonic()
    write_array(result.labels, volume, Path(mask))
    marks["write"] = time.monotonic()
    segmenter.segment(volume)
    return {**marks, "second_s": time.monotonic() - marks["write"]}
