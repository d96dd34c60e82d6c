"""What waits to be sent to a client that may read slowly, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence

from verdiff.limits import IgtlLimits
from verdiff.serve.igtl.frames import Piece

_CHUNK = 1 << 18


class Outbox:
    """Messages of one connection, in order. A newer mask or surface takes the place of one that still waits."""

    def __init__(self, writer: asyncio.StreamWriter, limits: IgtlLimits) -> None:
        self._writer, self._limits = writer, limits
        self._waiting: deque[tuple[Hashable | None, Sequence[Piece]]] = deque()
        self._filled, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()

    def put(self, pieces: Sequence[Piece], *, of: Hashable | None = None) -> None:
        """Queue a message; a client that lets too many wait, or too much, is cut off.

        Args:
            pieces: The message.
            of: What it shows: one that waits and shows the same goes, so that a client which asks again and again and
                does not read costs no more memory.
        """
        if of is not None:
            self._waiting = deque(each for each in self._waiting if each[0] != of)
        held = sum(memoryview(piece).nbytes for _, waits in self._waiting for piece in waits)
        if len(self._waiting) >= self._limits.waiting or held > self._limits.waiting_mb << 20:
            self._writer.transport.abort()
            return
        self._waiting.append((of, pieces))
        self._empty.clear()
        self._filled.set()

    async def send(self) -> None:
        """Send what comes, for ever; a client that takes nothing for too long is cut off."""
        try:
            while True:
                await self._filled.wait()
                while self._waiting:
                    for piece in self._waiting.popleft()[1]:
                        await self._send_piece(memoryview(piece))
                self._filled.clear()
                self._empty.set()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
            self._empty.set()

    async def emptied(self, seconds: float) -> None:
        """Wait until all is sent, but not longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return

    async def _send_piece(self, piece: memoryview) -> None:
        for start in range(0, len(piece), _CHUNK):
            self._writer.write(piece[start : start + _CHUNK])
            async with asyncio.timeout(self._limits.stall_s):
                await self._writer.drain()
