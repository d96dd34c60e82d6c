"""Instances on their way to a series: kept as files under numbers, counted, complete after a while.

Nothing that a message says becomes part of a path: a series and its instances get numbers as they come.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic

from verdiff.imaging.dicom_elements import Damaged
from verdiff.imaging.dicom_header import NotDicom, read_header
from verdiff.limits import Completion, NodeLimits
from verdiff.serve.dicom.settings import IMAGES, SYNTAXES

_LOG = logging.getLogger("verdiff.serve.dicom")
# PS3.4, B.2.3 and PS3.7, C.4: status of a C-STORE; PS3.18, I.2.2: the same as a reason over DICOMweb.
STORED, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
CLASS_NOT_SUPPORTED, SYNTAX_NOT_SUPPORTED, OTHER_STUDY = 0x0122, 0xC122, 0x0110
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_MB = 1 << 20


@dataclass(frozen=True)
class Receipt:
    """What became of an instance.

    Attributes:
        status: :data:`STORED`, or why not.
        sop_class: SOP Class UID; empty where it is not known.
        instance: SOP Instance UID, likewise.
    """

    status: int
    sop_class: str = ""
    instance: str = ""


@dataclass
class ReceivedSeries:
    """Instances of one series from one sender.

    Attributes:
        number: Number of the series in messages.
        sender: AE title, or how it came.
        folder: Where its files lie.
        files: Size of each instance by its SOP Instance UID, unpacked where its file is deflated.
        last: Time at which the last instance came, by :func:`time.monotonic`.
        answered: Time at which it was last done with, likewise.
        fresh: Whether something came since it was last handed on.
    """

    number: int
    sender: str
    folder: Path
    files: dict[str, int] = field(default_factory=dict)
    last: float = 0.0
    answered: float = -math.inf
    fresh: bool = True


class Inbox:
    """The series that are on their way; any thread may store.

    Args:
        folder: Its own, empty.
        completion: Rule by which a series is complete.
        limits: How much is held.
        clock: Seconds.
    """

    def __init__(
        self, folder: Path, completion: Completion, limits: NodeLimits, clock: Callable[[], float] = monotonic
    ) -> None:
        self._folder, self._completion, self._limits, self._clock = folder, completion, limits, clock
        self._series: dict[tuple[str, str, str], ReceivedSeries] = {}
        self._lock = Lock()
        self._numbers = 0

    def store(self, sender: str, data: bytes, study: str | None = None) -> Receipt:
        """Keep an instance; what its sender is told.

        Args:
            sender: AE title, or how it came.
            data: The file, with its meta information.
            study: The Study Instance UID that it must have, if any.
        """
        with self._lock:
            self._numbers += 1
            path = self._folder / f"{self._numbers:08d}.dcm"
        receipt = Receipt(OUT_OF_RESOURCES)
        try:
            path.write_bytes(data)
            receipt = self._take(sender, path, len(data), study)
        except (NotDicom, Damaged):
            receipt = Receipt(CANNOT_UNDERSTAND)
        except OSError:
            _LOG.info("an instance found no room on the disk")
        finally:
            path.unlink(missing_ok=True)
        return receipt

    def _take(self, sender: str, path: Path, size: int, study: str | None) -> Receipt:
        """Move a file to its series, if it is one that is taken."""
        header = read_header(path, self._limits.instance_mb * _MB)
        # Reading the series will unpack it again.
        size = max(size, len(header.inflated or b""))
        uids = header.text(_CLASS), header.text(_INSTANCE)
        own_study, series = header.text(_STUDY), header.text(_SERIES)
        if not (own_study and series and all(uids)):
            return Receipt(CANNOT_UNDERSTAND, *uids)
        if uids[0] not in IMAGES:
            return Receipt(CLASS_NOT_SUPPORTED, *uids)
        if header.syntax not in SYNTAXES:
            return Receipt(SYNTAX_NOT_SUPPORTED, *uids)
        if study not in (None, own_study):
            return Receipt(OTHER_STUDY, *uids)
        with self._lock:
            if not self._has_room(size):
                return Receipt(OUT_OF_RESOURCES, *uids)
            try:
                self._keep((sender, own_study, series), uids[1], path, size)
            except OSError:
                return Receipt(OUT_OF_RESOURCES, *uids)
        return Receipt(STORED, *uids)

    def complete(self) -> list[ReceivedSeries]:
        """The series that are complete and were not handed on since something came; each is handed on once."""
        now, wanted = self._clock(), self._completion
        with self._lock:
            self._forget(now)
            ready = [
                series
                for series in self._series.values()
                if series.fresh
                and (
                    now - series.last >= wanted.quiet_s
                    or (wanted.instances is not None and len(series.files) >= wanted.instances)
                )
            ]
            for series in ready:
                series.fresh = False
            return ready

    def done_with(self, series: ReceivedSeries) -> None:
        """A series was answered; what comes late within :attr:`NodeLimits.keep_s` from now on is added to it."""
        with self._lock:
            series.answered = self._clock()

    def _has_room(self, size: int) -> bool:
        held = [size for series in self._series.values() for size in series.files.values()]
        return sum(held) + size <= self._limits.held_mb * _MB and len(held) < self._limits.held_instances

    def _keep(self, key: tuple[str, str, str], instance: str, path: Path, size: int) -> None:
        series = self._series.get(key)
        if series is None:
            number = 1 + max((each.number for each in self._series.values()), default=0)
            series = ReceivedSeries(number, key[0], self._folder / f"series-{path.stem}")
            series.folder.mkdir()
            self._series[key] = series
        # The same instance again replaces what came before: its place among the files is its own number.
        index = list(series.files).index(instance) if instance in series.files else len(series.files)
        path.replace(series.folder / f"{index:06d}.dcm")
        series.files[instance] = size
        series.last, series.fresh = self._clock(), True

    def _forget(self, now: float) -> None:
        for key, series in list(self._series.items()):
            if not series.fresh and now - max(series.last, series.answered) > self._limits.keep_s:
                shutil.rmtree(series.folder, ignore_errors=True)
                del self._series[key]
