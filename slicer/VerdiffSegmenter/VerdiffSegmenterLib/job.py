"""One scan of the scene, segmented: its files, the call, and what comes of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from VerdiffSegmenterLib import scene
from VerdiffSegmenterLib.call import Call, Progress, Settings, clean_environment, command


class Job:
    """A call that was started for a volume; :meth:`finish` puts its segments into the scene.

    Args:
        program: The program ``verdiff``.
        volume: A scalar volume node.
        settings: What the user chose.
        environment: Slicer's environment as it was before its launcher changed it.

    Raises:
        CallError: The volume cannot be written, or the program cannot be started.
    """

    def __init__(self, program: str, volume: Any, settings: Settings, environment: Mapping[str, str]) -> None:
        self._volume, self._settings = volume, settings
        self._folder = Path(tempfile.mkdtemp(prefix="verdiff-slicer-"))
        try:
            scan, self._mask = self._folder / "scan.nrrd", self._folder / "scan_seg.seg.nrrd"
            scene.write_volume(volume, scan)
            self._call = Call(command(program, scan, self._mask, settings), clean_environment(environment))
        except BaseException:
            self._remove()
            raise

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self._call.running

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._call.progress

    def cancel(self) -> None:
        """End the process and take its files away; the scene stays as it was."""
        self._call.cancel()
        self._remove()

    def finish(self, segmentation: Any) -> dict[str, Any] | None:
        """Put the segments of a job that has ended into ``segmentation``; verdiff's report, or None if cancelled.

        Raises:
            CallError: verdiff ended without a mask; ``segmentation`` is as it was.
        """
        try:
            report = self._call.report()
            if report is None:
                return None
            wanted = report["files"]["instances" if self._settings.vertebrae else "mask"]
            scene.read_segmentation(self._folder / wanted, segmentation)
            scene.belongs_to(segmentation, self._volume, report)
            return report
        finally:
            self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """What the user is told of a report: what was found, which levels, and every warning."""
    lines = [f"{name}: {volume:.1f} ml" for name, volume in report["volumes_ml"].items()]
    if report["outcome"] != "complete":
        lines.insert(0, f"outcome: {report['outcome']}")
    levels = report["provenance"].get("levels")
    if levels is not None:
        surely = levels["level_probability"]
        source = levels["levels_from"] + ("" if surely is None else f", probability {surely:.3f}")
        named = ", ".join(f"{number} is {level}" for number, level in levels["levels"].items() if level)
        lines.append(f"levels: {source}" + (f" ({named})" if named else "; name the lowest one if you know it"))
    lines += [f"warning: {each['text']}" for each in report["provenance"]["warnings"]]
    return lines + [f"forced past: {each}" for each in report["provenance"]["forced"]]
