"""One connection: images come in, the newest wins, masks and words go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verdiff.errors import ServiceError, VerdiffError
from verdiff.imaging import Volume
from verdiff.serve.igtl import contents, markup
from verdiff.serve.igtl.codes import Code, Refused
from verdiff.serve.igtl.frames import HEADER_SIZE, Message, MessageHeader, pieces_of, read_header, read_message
from verdiff.serve.igtl.image import Pose, image_content, read_image
from verdiff.serve.igtl.outbox import Outbox
from verdiff.serve.igtl.service import Service
from verdiff.serve.igtl.words import HELP, Words, in_words, words_of_command, words_of_string
from verdiff.serve.job import Job, Reply

_READ = 1 << 20


@dataclass(eq=False)
class _Source:
    """An image that came, and what becomes of it."""

    header: MessageHeader
    pose: Pose
    events: asyncio.Queue[Reply | Job] = field(default_factory=asyncio.Queue)
    job: Job | None = None
    overtaken: bool = False


class Session:
    """The conversation with one client."""

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(writer, service.limits)
        self._version = 1
        self._deadline_ms, self._surfaces = service.deadline_ms, service.surfaces
        self._sources: dict[bytes, _Source] = {}
        self._named: dict[bytes, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_for_us: set[str] = set()
        self._last: tuple[_Source, Reply, Job] | None = None

    async def run(self) -> None:
        """Serve until the client leaves, or cannot be understood any more."""
        sending = asyncio.create_task(self._outbox.send())
        try:
            while await self._serve_one():
                pass
        except (EOFError, OSError):
            # A client that leaves in the middle of a message has nobody left to be told.
            pass
        except Refused as error:
            self._say(error.code, type(error).__name__, error)
            await self._outbox.emptied(self._service.limits.leave_s)
            await self._let_go()
        finally:
            for source in self._sources.values():
                source.overtaken = True
                self._cancel(source)
            for task in (*self._tasks, sending):
                task.cancel()
            self._writer.close()

    async def leave(self, code: Code, text: str) -> None:
        """Say a last word and hang up."""
        self._put("STATUS", contents.status_content(code, code.name.lower(), text))
        await self._outbox.emptied(self._service.limits.leave_s)
        self._writer.close()

    # In.

    async def _serve_one(self) -> bool:
        """Read and answer a message, and let go of its memory; whether there was one."""
        message = await self._next()
        if message is not None:
            await self._handle(message)
        return message is not None

    async def _next(self) -> Message | None:
        """The next message that can be used; None when the client has left between two."""
        while True:
            head = bytearray(HEADER_SIZE)
            first = await self._reader.read(HEADER_SIZE)
            if not first:
                return None
            head[: len(first)] = first
            header: MessageHeader | None = None
            try:
                async with asyncio.timeout(self._service.limits.message_s):
                    await self._fill(memoryview(head)[len(first) :])
                    header = read_header(head)
                    self._version = max(self._version, header.version)
                    if header.size > self._service.limits.body_mb << 20:
                        raise Refused(
                            Code.OVERFLOW,
                            f"a body of {header.size} bytes",
                            f"at most {self._service.limits.body_mb} MiB",
                            "send a smaller scan, or raise the limit of the server",
                            final=True,
                        )
                    # Memory that a header only claims is not taken: it comes with the bytes.
                    body = np.empty(header.size, np.uint8).data
                    await self._fill(body)
                return read_message(header, body)
            except TimeoutError:
                raise Refused(
                    Code.TIME_OUT,
                    "a message that did not arrive in time",
                    f"no pause of {self._service.limits.stall_s:g} s within a message",
                    "send it again, faster",
                    final=True,
                ) from None
            except Refused as error:
                if error.final:
                    raise
                self._say(error.code, type(error).__name__, error, header)

    async def _fill(self, into: memoryview) -> None:
        at = 0
        while at < len(into):
            async with asyncio.timeout(self._service.limits.stall_s):
                part = await self._reader.read(min(_READ, len(into) - at))
            if not part:
                raise EOFError
            into[at : at + len(part)] = part
            at += len(part)

    async def _let_go(self) -> None:
        """Read on for a moment: a connection that is closed over unread bytes takes the last word with it."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        try:
            async with asyncio.timeout(self._service.limits.leave_s):
                while await self._reader.read(_READ):
                    pass
        except (TimeoutError, OSError):
            return

    async def _handle(self, message: Message) -> None:
        handlers: dict[str, Callable[[Message], None]] = {
            "STRING": self._string,
            "COMMAND": self._command,
            "GET_CAPABIL": self._capability,
            "GET_STATUS": self._status,
            "GET_IMAGE": self._last_mask,
            "GET_POLYDATA": self._last_surfaces,
        }
        try:
            if message.header.type == "IMAGE":
                await self._image(message)
            else:
                handlers.get(message.header.type, self._refuse_once)(message)
        except VerdiffError as error:
            self._say(self._service.code_of(error), type(error).__name__, error, message.header)

    def _refuse_once(self, message: Message) -> None:
        """A tracker sends its transforms sixty times a second, and wants to hear this once."""
        kind = message.header.type
        if kind in self._not_for_us or kind == "STATUS" or len(self._not_for_us) > len(contents.CAPABILITIES):
            return
        self._not_for_us.add(kind)
        raise Refused(
            Code.UNKNOWN_INSTRUCTION,
            f"a message of type {kind}",
            f"one of {', '.join(contents.CAPABILITIES)}",
            "nothing: messages of this type are passed over from now on",
        )

    # Images and what becomes of them.

    async def _image(self, message: Message) -> None:
        device = message.header.device
        if self._last is not None and self._last[0].header.device == device:
            self._last = None  # a newer scan of that name is here, whatever becomes of it
        self._service.check_name(device, self._named)
        volume, pose = read_image(message.content)
        if (older := self._sources.pop(device, None)) is not None:
            older.overtaken = True
            self._cancel(older)
        source = self._sources[device] = _Source(message.header, pose)
        try:
            source.job = await asyncio.to_thread(self._submit, volume, source)
        except VerdiffError as error:
            del self._sources[device]
            full = isinstance(error, ServiceError) and self._service.client.state in ("busy", "ready", "loading")
            self._say(Code.BUSY if full else self._service.code_of(error), type(error).__name__, error, message.header)
            return
        text = f"job {source.job.id}: accepted; {self._service.model}"
        self._put("STATUS", contents.status_content(Code.OK, "accepted", text), source.header)
        task = asyncio.create_task(self._follow(source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _submit(self, volume: Volume, source: _Source) -> Job:
        """Submit in a thread of its own, since the scan is looked through and copied."""

        def pass_on(event: Reply | Job) -> None:
            # A job may end after the loop has.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(source.events.put_nowait, event)

        job = self._service.client.submit(
            volume,
            deadline_ms=self._deadline_ms,
            surfaces=self._surfaces,
            on_reply=pass_on,
            on_end=pass_on,
            **self._service.options,
        )
        if source.overtaken:
            job.cancel()
        return job

    async def _follow(self, source: _Source) -> None:
        """Pass on the masks of an image until its job is over."""
        last: Reply | None = None
        while isinstance(event := await source.events.get(), Reply):
            last = event
            if not source.overtaken:
                self._put_mask(source, event)
        if self._sources.get(source.header.device) is source:
            del self._sources[source.header.device]
        if source.overtaken:
            text = f"job {event.id}: a newer image took its place"
            self._put("STATUS", contents.status_content(Code.OK, "overtaken", text), source.header)
        elif event.error is not None:
            error = event.error
            self._say(self._service.code_of(error), type(error).__name__, error, source.header, job=event.id)
        elif last is not None:
            self._last = source, last, event
            self._put_surfaces(event, source.header)
            name, text = self._service.last_words(last)
            self._put("STATUS", contents.status_content(Code.OK, name, text), source.header)

    def _cancel(self, source: _Source) -> None:
        if source.job is not None:
            source.job.cancel()

    # What a client asks.

    def _string(self, message: Message) -> None:
        text = contents.read_string(message.content)
        answer = self._obey(words_of_string(text))
        self._put("STRING", contents.string_content(in_words(answer)), message.header)

    def _command(self, message: Message) -> None:
        command = contents.read_command(message.content)
        in_xml = markup.is_xml(command.text)
        try:
            words = words_of_command(command.name, command.text)
            answer, status = self._obey(words), "SUCCESS"
            text = markup.result(words.what, answer) if in_xml else in_words(answer)
        except Refused as error:
            text, status = markup.failure(command.name, error) if in_xml else str(error), "FAILURE"
        self._put("RTS_COMMAND", contents.command_content(command, text), message.header, metadata={"Status": status})

    def _obey(self, words: Words) -> str | dict[str, Any]:
        if words.deadline is not None:
            self._deadline_ms = words.deadline or None
            return "no deadline" if self._deadline_ms is None else f"deadline {self._deadline_ms:g} ms"
        if words.surfaces is not None:
            self._surfaces = words.surfaces
            return f"surfaces {'on' if words.surfaces else 'off'}"
        if words.what == "cancel":
            jobs = [source.job.id for source in self._sources.values() if source.job is not None]
            for source in self._sources.values():
                self._cancel(source)
            return f"cancelled {', '.join(jobs)}" if jobs else "nothing to cancel"
        if words.what == "help":
            return HELP
        jobs = [source.job.id for source in self._sources.values() if source.job is not None]
        return self._service.info(jobs=jobs, deadline_ms=self._deadline_ms, surfaces=self._surfaces)

    def _capability(self, message: Message) -> None:
        self._put("CAPABILITY", contents.capability_content(contents.CAPABILITIES), message.header)

    def _status(self, message: Message) -> None:
        code, state = self._service.state
        self._put("STATUS", contents.status_content(code, state, f"{state}; {self._service.model}"), message.header)

    def _last_mask(self, message: Message) -> None:
        last, wanted = self._last, message.header.device
        if last is None or wanted not in (b"", self._service.mask_name(last[0].header.device)):
            # The protocol's word for nothing: the type with an empty body.
            self._put("IMAGE", [], message.header)
            return
        self._put_mask(last[0], last[1])

    def _last_surfaces(self, message: Message) -> None:
        if self._last is None or not self._last[2].surfaces:
            self._put("POLYDATA", [], message.header)
            return
        self._put_surfaces(self._last[2], self._last[0].header)

    # Out.

    def _put_mask(self, source: _Source, reply: Reply) -> None:
        name = self._service.mask_name(source.header.device)
        pieces = pieces_of(
            "IMAGE",
            image_content(reply.labels, source.pose),
            device=name,
            version=self._version,
            timestamp=source.header.timestamp,
            metadata=self._service.metadata(reply),
            id=source.header.id,
        )
        self._outbox.put(pieces, of=("mask", name))

    def _put_surfaces(self, job: Job, header: MessageHeader) -> None:
        for name, surface in job.surfaces.items():
            pieces = pieces_of(
                "POLYDATA",
                contents.polydata_content(surface),
                device=name.encode()[:20],
                version=self._version,
                timestamp=header.timestamp,
                metadata={"job": job.id},
                id=header.id,
            )
            self._outbox.put(pieces, of=("surface", header.device, name))

    def _put(
        self,
        kind: str,
        content: list[Any],
        header: MessageHeader | None = None,
        *,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Send a message about another one, whose device name and id it takes."""
        device, number = (b"", 0) if header is None else (header.device, header.id)
        self._outbox.put(pieces_of(kind, content, device=device, version=self._version, metadata=metadata, id=number))

    def _say(
        self, code: Code, name: str, error: VerdiffError, header: MessageHeader | None = None, *, job: str | None = None
    ) -> None:
        """An error as a STATUS: its code, its name, its exit code, and its three parts."""
        text = str(error) if job is None else f"job {job}\n{error}"
        self._put("STATUS", contents.status_content(code, name, text, sub_code=error.exit_code), header)
