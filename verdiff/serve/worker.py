"""The worker: a process that loads one model and answers one job after the other.

``python -P -m verdiff.serve.worker FD``, with the number of an open socket. It is a fresh interpreter, never a fork:
the threads of an inference library do not survive one. When its host hangs up, or dies, it ends at once.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.errors import BudgetError, ServiceError, VerdiffError
from verdiff.serve.blocks import mapped, share
from verdiff.serve.channel import Channel, ChannelClosed
from verdiff.serve.wording import describe_error, volume_of

if TYPE_CHECKING:
    from verdiff.runtime import Segmentation, Segmenter

# Of a deadline, in seconds: what handing the mask over takes.
_HANDING_OVER = 0.02


@dataclass
class _Task:
    message: dict[str, Any]
    block: int
    cancelled: Event = field(default_factory=Event)


class _Inbox:
    """Jobs and cancellations as they come, read while the model computes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._jobs: queue.Queue[_Task] = queue.Queue()
        self._tasks: dict[str, _Task] = {}

    def start(self) -> None:
        Thread(target=self._read, name="verdiff-inbox", daemon=True).start()

    def next(self) -> _Task:
        return self._jobs.get()

    def done(self, task: _Task) -> None:
        del self._tasks[task.message["job"]]

    def _read(self) -> None:
        # Whatever goes wrong with the host, nobody is left to tell, and a model in memory serves nobody.
        try:
            while True:
                message, blocks = self._channel.receive()
                if "cancel" in message:
                    if (task := self._tasks.get(message["cancel"])) is not None:
                        task.cancelled.set()
                else:
                    task = self._tasks[message["job"]] = _Task(message, blocks[0])
                    self._jobs.put(task)
        finally:
            os._exit(0)


def main() -> None:
    """Load what the host names, then answer its jobs until it hangs up."""
    # Ctrl-C in a terminal reaches the whole group; the host ends its worker itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        options, _ = channel.receive()
        try:
            segmenter = _load(options)
        except VerdiffError as error:
            channel.send(describe_error(error))
            return
        inbox = _Inbox(channel)
        inbox.start()
        channel.send({"ready": _describe(segmenter)})
        while True:
            task = inbox.next()
            _answer(segmenter, task, channel)
            inbox.done(task)
    except ChannelClosed:
        return


def _load(options: dict[str, Any]) -> Segmenter:
    from verdiff.runtime import Segmenter

    try:
        return Segmenter.load(**options)
    except VerdiffError:
        raise
    except Exception as error:
        raise _unforeseen(error, "loading the model") from error


def _describe(segmenter: Segmenter) -> dict[str, Any]:
    backend = segmenter.backend
    return {
        **segmenter.model,
        "labels": {label.name: label.id for label in segmenter.manifest.labels},
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
    }


def _answer(segmenter: Segmenter, task: _Task, channel: Channel) -> None:
    """Stream the masks of one job, then say that it is over, whatever happened."""
    job = task.message["job"]
    try:
        end, surfaces = _segment(segmenter, task, channel)
    except VerdiffError as error:
        end, surfaces = describe_error(error), []
    except ChannelClosed:
        raise
    except Exception as error:
        end, surfaces = describe_error(_unforeseen(error, "segmenting")), []
    try:
        channel.send({"end": job, **end}, *surfaces)
    finally:
        _close(surfaces)


def _segment(segmenter: Segmenter, task: _Task, channel: Channel) -> tuple[dict[str, Any], list[int]]:
    message = task.message
    described = message["volume"]
    x, y, z = described["size"]
    volume = volume_of(described, mapped(task.block, (z, y, x), described["dtype"]))
    budget_ms = None
    if message["deadline"] is not None:
        budget_ms = 1000 * (message["deadline"] - monotonic() - _HANDING_OVER)
        if budget_ms <= 0:
            raise BudgetError(
                "the deadline passed while the job waited", "a deadline that is still to come", "allow more time"
            )
    if message["surfaces"]:
        from verdiff.anatomy.libraries import require_libraries

        # What is not installed is said before the work, not after it.
        require_libraries()
    result = None
    for result in segmenter.stream(volume, budget_ms=budget_ms, cancel=task.cancelled.is_set, **message["options"]):
        _send(message["job"], result, channel, uncertainty=message["uncertainty"])
    if result is None or not message["surfaces"]:
        return {}, []
    return _surfaces(result)


def _send(job: str, result: Segmentation, channel: Channel, *, uncertainty: bool) -> None:
    blocks: list[int] = []
    try:
        for array in (result.labels, result.uncertainty) if uncertainty else (result.labels,):
            blocks.append(share(array))
        channel.send(
            {
                "reply": job,
                "outcome": result.outcome,
                "volumes_ml": result.volumes_ml(),
                "timings": result.timings,
                "provenance": result.provenance,
            },
            *blocks,
        )
    finally:
        _close(blocks)


def _surfaces(result: Segmentation) -> tuple[dict[str, Any], list[int]]:
    """Closed surfaces of the structures, vertices and triangles in turns."""
    from verdiff.anatomy import surface_of

    named: list[dict[str, Any]] = []
    blocks: list[int] = []
    try:
        for label in result.label_table if result.geometry.size[2] > 1 else ():
            mask = result.labels == label.id
            if mask.any():
                surface = surface_of(mask, result.geometry)
                blocks.append(share(surface.vertices_mm.astype(np.float64)))
                blocks.append(share(surface.triangles.astype(np.int64)))
                named.append(
                    {"name": label.name, "vertices": len(surface.vertices_mm), "triangles": len(surface.triangles)}
                )
    except BaseException:
        _close(blocks)
        raise
    return {"surfaces": named}, blocks


def _close(blocks: list[int]) -> None:
    for block in blocks:
        os.close(block)


def _unforeseen(error: Exception, doing: str) -> ServiceError:
    return ServiceError(
        f"{doing} failed: {type(error).__name__}: {error}",
        "a mask or an error that verdiff foresees",
        "try again; if it stays, report it with this line",
    )


if __name__ == "__main__":
    main()
