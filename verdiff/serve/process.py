"""The worker's process, seen from its host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from verdiff.errors import ServiceError
from verdiff.serve.channel import Channel

# A local socket takes a message at once, or the other side has stopped reading.
_STALLED_S = 5.0


class WorkerProcess:
    """A fresh interpreter that loads a model; see :mod:`verdiff.serve.worker`."""

    def __init__(self, *, python: str | None = None) -> None:
        """Start it: it waits for the options of the load, and then says that it is ready, or why not.

        Args:
            python: The interpreter, where the host is none itself; None is this one.

        Raises:
            ServiceError: There are no such sockets here, or no interpreter.
        """
        if not hasattr(socket, "send_fds"):
            raise ServiceError(
                f"a worker process on {sys.platform}",
                "a system with local sockets that carry file descriptors (Linux, macOS)",
                "use verdiff.runtime.Segmenter in the process itself",
            )
        ours, theirs = socket.socketpair()
        ours.settimeout(_STALLED_S)
        command = [python or sys.executable, "-P", "-m", "verdiff.serve.worker", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise ServiceError(
                f"no worker process: {command[0] or 'the interpreter'} does not start ({error.strerror})",
                "a Python interpreter with verdiff",
                "name it with python=",
            ) from error
        finally:
            theirs.close()
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def end(self, patience_s: float = 0.0) -> str:
        """Hang up, wait so long for it to go, then kill it; says how it ended."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            if patience_s > 0:
                self._process.wait(patience_s)
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        if code < 0:
            with suppress(ValueError):
                return f"by {signal.Signals(-code).name}"
        return f"with code {code}"
