"""How much the servers take and how long they wait: each limit listed once, with its default, its bounds and its help.

The options of ``verdiff serve``, the checks and the reference follow from these fields (:mod:`verdiff.settings`).
"""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.errors import InputError
from verdiff.settings import COUNT, Bounds, check_options, keyword, option

SECONDS = Bounds(0, above=True)
MEBIBYTES = Bounds(1, 16_384)


class _Checked:
    """A record whose values are within their bounds."""

    def __post_init__(self) -> None:
        check_options(self, InputError)


@dataclass(frozen=True)
class Limits(_Checked):
    """Limits of a worker: what a job may take before its supervisor steps in."""

    job_s: float = keyword(
        600.0,
        "Seconds that a job without a deadline may compute; then it is cancelled and gives the answer it has.",
        SECONDS,
    )
    late_s: float = keyword(
        0.5,
        "Seconds that a job may be past its deadline; then it is cancelled too. It minds the deadline itself.",
        SECONDS,
    )
    grace_s: float = keyword(
        5.0, "Seconds that a worker has to end a job that was cancelled; then it is killed.", SECONDS
    )
    load_s: float = keyword(180.0, "Seconds that a worker has to load the model; then it is killed.", SECONDS)
    pause_s: float = keyword(
        30.0,
        "Seconds of the longest pause between attempts to start a worker that does not come up; the first are shorter.",
        SECONDS,
    )
    waiting: int = keyword(16, "Jobs that may wait for the worker; one more is refused.", COUNT)


@dataclass(frozen=True)
class IgtlLimits(_Checked):
    """Limits of an OpenIGTLink server."""

    body_mb: int = option(512, "The largest OpenIGTLink message, in MiB.", MEBIBYTES, flag="--max-mb")
    clients: int = keyword(16, "Connections at a time; one more is told that the server is busy.", COUNT)
    stall_s: float = keyword(
        10.0,
        "Seconds of the longest pause within a message, and until the client takes a piece of what is sent to it.",
        SECONDS,
    )
    message_s: float = keyword(120.0, "Seconds that one message may take to arrive.", SECONDS)
    waiting: int = keyword(256, "Messages that may wait for a client that does not read.", COUNT)
    waiting_mb: int = keyword(1024, "MiB that may wait likewise, beside the newest message.", MEBIBYTES)
    leave_s: float = keyword(2.0, "Seconds that clients have to take the last word when the server ends.", SECONDS)


@dataclass(frozen=True)
class Completion(_Checked):
    """Rule by which a DICOM series is complete."""

    quiet_s: float = option(10.0, "Seconds without a new image that complete a series.", SECONDS)
    instances: int | None = option(None, "Instances that complete a series, without waiting.", COUNT)


@dataclass(frozen=True)
class NodeLimits(_Checked):
    """Limits of a DICOM node, and of the DICOMweb service beside it."""

    instance_mb: int = keyword(
        512, "The largest instance in MiB; a longer one ends its association or its request.", MEBIBYTES
    )
    request_mb: int = keyword(2048, "The largest request over DICOMweb in MiB.", COUNT)
    request_instances: int = keyword(20_000, "Instances in one.", COUNT)
    held_mb: int = keyword(
        8192, "All instances that are held, in MiB; further ones are refused as out of resources.", COUNT
    )
    held_instances: int = keyword(20_000, "Instances that are held.", COUNT)
    associations: int = keyword(4, "Associations open at once; connections of DICOMweb, too.", COUNT)
    network_s: float = keyword(
        30.0, "Seconds without a byte after which an association is ended; over DICOMweb, for each 64 KiB.", SECONDS
    )
    keep_s: float = keyword(
        600.0, "Seconds that a series is kept after its end, for instances that come late.", SECONDS
    )
    attempts: int = keyword(3, "Attempts to deliver a result.", COUNT)
    retry_s: float = keyword(1.0, "Seconds before the second attempt; they grow fivefold each time.", SECONDS)
    waiting: int = keyword(32, "Results that may wait for a destination; one more is given up.", COUNT)
