"""A Ray cluster to work on: one that is started for this call alone and leaves nothing, or one that is there already.

Ray is the extra ``[ray]``. What it does beside its work is turned off: usage statistics, its dashboard, the look for a
cloud's metadata, the log of its workers on the terminal. A cluster of our own listens on this machine alone, wants a
secret that no file holds, and keeps its sockets and logs in a folder that is removed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from verdiff.errors import BackendError, OutputError, ServiceError
from verdiff.extras import install

LOCAL = "local"
# Messages here are some kB; the least that Ray takes.
_OBJECT_STORE_BYTES = 80 * 2**20
# A path of a local socket has 107 bytes at most, and Ray's own part of it has some 80.
_LONGEST_FOLDER = 24
# Nobody listens at the port "discard": requests to hosts that Ray looks for end at once, on this machine.
_NOWHERE = "http://127.0.0.1:9"
# The thread with which Ray tells of what happens elsewhere.
_TALKS = "ray_listen_error_messages"
# Of a head of a cluster in the same network.
_LISTENS_WITHIN_SECONDS = 10.0
_ALONE = "127.0.0.1,localhost,::1"


@dataclass(frozen=True)
class ClusterDevice:
    """What one worker computes on.

    Attributes:
        name: Name for messages, which no other device has.
        node: Ray's name of its machine.
        threads: CPU threads that are its own; None on a GPU.
        resources: What Ray is asked for.
    """

    name: str
    node: str
    threads: int | None
    resources: Mapping[str, float]


def ray() -> Any:
    """The module of Ray.

    Raises:
        BackendError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise _no_ray(error) from error


def require_ray() -> None:
    """Refuse to begin without Ray, which is not imported: it reads its environment when it is.

    Raises:
        BackendError: It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise _no_ray("it is not installed")


def _no_ray(why: object) -> BackendError:
    return BackendError(
        f"the package ray is not usable: {why}", "what --ray hands scans to workers with", install("ray")
    )


@contextmanager
def cluster(address: str, *, cpus: int | None = None) -> Iterator[Any]:
    """Be on a cluster while the block runs; what is given is the module of Ray.

    Args:
        address: Where it is, ``HOST:PORT`` or ``"auto"``; ``"local"`` starts one on this machine. A process that is
            on a cluster already stays on that one.
        cpus: CPU threads of one that is started here; None is all.

    Raises:
        BackendError: Ray is not installed.
        ServiceError: There is no cluster, or none can be started.
        OutputError: There is no folder for temporary files.
    """
    if address == LOCAL:
        with _environment(_of_our_own()):
            module = ray()
            if module.is_initialized():
                yield module
                return
            with _folder() as folder:
                quiet = {"http_proxy": _NOWHERE, "https_proxy": _NOWHERE, "no_proxy": _ALONE, "no_grpc_proxy": _ALONE}
                with _environment(quiet):
                    options = {"_temp_dir": str(folder), "object_store_memory": _OBJECT_STORE_BYTES, "num_cpus": cpus}
                    _join(module, address, include_dashboard=False, **options)
                with _joined(module):
                    yield module
        return
    module = ray()
    if module.is_initialized():
        yield module
        return
    _look_for(address)
    _join(module, address)
    with _joined(module):
        yield module


def devices_of(nodes: list[Mapping[str, Any]], device: str, threads: int | None) -> list[ClusterDevice]:
    """The devices of a cluster, of every machine in turn.

    Args:
        nodes: What ``ray.nodes()`` says.
        device: ``"cpu"`` or ``"cuda"``.
        threads: CPU threads of a device; None makes each machine's processor one device.

    Raises:
        BackendError: There is none.
    """
    found: list[list[ClusterDevice]] = []
    for node in nodes:
        if not node["Alive"]:
            continue
        here, has = node["NodeManagerHostname"], node["Resources"]
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        if device == "cpu":
            share = threads or cpus
            count = cpus // share if share else 0
            of_one: dict[str, float] = {"num_cpus": share}
        else:
            share, count = None, gpus
            # Its own core reads and writes.
            of_one = {"num_gpus": 1, "num_cpus": 1 if cpus >= gpus else 0}
        what = "GPU" if share is None else f"{share} threads"
        found.append([ClusterDevice(f"{here}, {what} {n + 1}", node["NodeID"], share, of_one) for n in range(count)])
    turns = max((len(of_node) for of_node in found), default=0)
    listed = [of_node[turn] for turn in range(turns) for of_node in found if turn < len(of_node)]
    if not listed:
        wanted = "a GPU" if device != "cpu" else f"{threads or 1} CPU threads on one machine"
        raise BackendError(
            f"a Ray cluster of {len(found)} machines without {wanted}",
            "a device for at least one worker",
            "add machines to the cluster, or choose another --device or fewer --threads",
        )
    return listed


def _join(module: Any, address: str, **options: Any) -> None:
    handler = _handler_of_sigterm()
    try:
        module.init(address=address, log_to_driver=False, logging_level="error", configure_logging=False, **options)
    except (KeyboardInterrupt, SystemExit):
        module.shutdown()
        raise
    except Exception as error:
        with suppress(Exception):
            module.shutdown()
        raise _no_cluster(address, error) from error
    finally:
        # Ray has one of its own, which ends the process without putting files in order.
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _joined(module: Any) -> Iterator[None]:
    """Leave the cluster at the end, and keep standard output for what the caller gives."""
    before = sys.stdout
    sys.stdout = _WithoutRay(before)
    try:
        yield
    finally:
        sys.stdout = before
        module.shutdown()


class _WithoutRay:
    """A stream without what Ray's own thread prints there of workers that died; verdiff says it in its own words."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name == _TALKS else int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _look_for(address: str) -> None:
    """Tell at once of an address where nobody listens, for which Ray would wait."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LISTENS_WITHIN_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ServiceError:
    told = " ".join(str(error).split())
    if address == LOCAL:
        return ServiceError(
            f"no Ray cluster starts here: {told}",
            "Ray's processes within half a minute",
            "try again when the machine has less to do, or leave --ray out: one machine with one device needs none",
        )
    return ServiceError(
        f"no Ray cluster at {address}: {told}",
        "one with the same Python and the same Ray, whose head or worker this machine is",
        "start one with 'ray start --head' on one machine and 'ray start --address' on the others, or use --ray local",
    )


def _handler_of_sigterm() -> Any:
    return signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None


def _of_our_own() -> dict[str, str]:
    """What keeps a cluster of our own to this machine, and its secret out of the user's home."""
    ours = {
        # Its name is older than its meaning: without it all servers of Ray listen on 127.0.0.1.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # A host that imported Ray before has settled this, and a secret that comes late would shut it out.
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        ours |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return ours


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that the block starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for sockets and logs, whose name is short enough, removed with all in it."""
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER or not os.path.isdir("/tmp") else "/tmp"
    try:
        made = Path(tempfile.mkdtemp(prefix="verdiff-", dir=place))
    except OSError as error:
        raise OutputError(
            f"no folder for Ray's sockets: {error.strerror or error}",
            "one for temporary files that can be written",
            "name one in TMPDIR",
        ) from error
    try:
        yield made
    finally:
        _end_those_of(made)
        # Processes that are ending still write their logs.
        for _ in range(50):
            shutil.rmtree(made, ignore_errors=True)
            if not made.exists():
                break
            sleep(0.1)


def _end_those_of(folder: Path) -> None:
    """End what Ray left behind of a cluster whose folder this is: a start that failed leaves its processes running."""
    name = os.fsencode(folder)
    for held in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if name in held.read_bytes():
                os.kill(int(held.parent.name), signal.SIGKILL)
