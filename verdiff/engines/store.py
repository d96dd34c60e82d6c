"""The cache of engines: a folder of this user's own, plans and sidecars that appear whole, one build at a time.

A plan is code for the GPU, so an engine is read only from a folder that nobody else can write, never from a bundle,
and its bytes are hashed before any library sees them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from verdiff.bundle.index import open_regular
from verdiff.bundle.layout import MANIFEST
from verdiff.engines.locking import exclusive
from verdiff.engines.machine import Machine, rebuild_command, require_match
from verdiff.engines.sidecar import PLAN, SIDECAR, EngineKey, Sidecar, unreadable
from verdiff.errors import BackendError, OutputError
from verdiff.files import Staging, atomic_path

CACHE_VARIABLE = "VERDIFF_CACHE"
MAX_SIDECAR_BYTES = 1 << 20
ENGINES = "engines"
PRIVATE_FOLDER = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_path(root: Path | None = None) -> Path:
    """Where engines lie, whether or not it is there yet; see :func:`cache_folder`.

    Raises:
        BackendError: It would be in the user's home folder, and there is none.
    """
    stated = os.environ.get(CACHE_VARIABLE, "") if root is None else str(root)
    try:
        return (Path(stated).expanduser() if stated else _user_cache() / "verdiff") / ENGINES
    except RuntimeError as error:
        raise BackendError(
            f"no place for engines: this user has no home folder ({error})",
            f"a folder named in {CACHE_VARIABLE} or with --cache, without ~, or HOME in the environment",
            f"set {CACHE_VARIABLE} to a folder that this user alone can write",
        ) from error


def cache_folder(root: Path | None = None) -> Path:
    """Where engines lie: ``engines`` in ``root`` or ``$VERDIFF_CACHE``, else in verdiff's folder of the user's cache.

    Made if it is not there.

    Raises:
        BackendError: It belongs to, or can be written by, somebody else.
        OutputError: It cannot be made.
    """
    return prepare_folder(cache_path(root))


def prepare_folder(folder: Path) -> Path:
    """Make a folder for engines, private to this user, or check that one is.

    Raises:
        BackendError: It belongs to, or can be written by, somebody else.
        OutputError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    _check_private(folder)
    return folder


def engine_path(key: EngineKey, folder: Path | None = None) -> Path:
    """Where the plan of a key lies; its sidecar has the same name with ``.json``."""
    return (cache_folder() if folder is None else folder) / (key.stem + PLAN)


def write_engine(key: EngineKey, plan: bytes, sidecar: Sidecar, folder: Path | None = None) -> Path:
    """Put an engine in the cache and return the plan's path.

    The sidecar comes last, and an engine without one does not exist: interrupted at any moment, there is the old
    engine, no engine, or the new one. Call it with :func:`engine_lock` held.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
        ValueError: The sidecar is not this plan's.
    """
    if sidecar.key != key or sidecar.plan_sha256 != hashlib.sha256(plan).hexdigest():
        raise ValueError("a sidecar of another engine")
    path = engine_path(key, folder)
    # The old sidecar goes first: without it the old plan is no engine, so no reader meets an old one and a new plan.
    with _refusals_of_the_cache(path), Staging(path.parent) as staged:
        _write_private(staged[path], plan)
        _write_private(staged[path.with_suffix(SIDECAR)], sidecar.to_json().encode("ascii"))
    return path


@contextmanager
def engine_lock(
    key: EngineKey, folder: Path | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Only one process or thread at a time is in this block for a key; others wait.

    The lock is the operating system's, so it ends with the process that holds it, however that ends.

    Args:
        key: Key of the engine that is built.
        folder: Folder of the cache.
        waiting: Called once if somebody else is building.

    Raises:
        OutputError: The lock file cannot be made.
    """
    path = engine_path(key, folder)
    try:
        descriptor = os.open(path.with_name(f".{key.stem}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        with exclusive(descriptor, waiting):
            yield
    finally:
        os.close(descriptor)


def find_engines(folder: Path | None = None, *, problems: list[BackendError] | None = None) -> list[Sidecar]:
    """Every complete engine of the cache, newest first. Nothing is created: a cache that is not there has none.

    Args:
        folder: Folder of the cache.
        problems: A list that gets what is wrong with each engine that is left out, or with the folder.
    """
    folder, found = cache_path() if folder is None else folder, []
    noted = [] if problems is None else problems
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SIDECAR))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        names = []
        noted.append(_not_readable(folder, error))
    for name in names:
        try:
            found.append(read_sidecar((folder / name).with_suffix(PLAN)))
        except BackendError as error:
            noted.append(error)
    return sorted(found, key=lambda sidecar: sidecar.built_at, reverse=True)


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar beside a plan, whose size and name it must state.

    Raises:
        BackendError: There is none, it is damaged, or it is another plan's.
    """
    name = path.with_suffix(SIDECAR).name
    try:
        with open_regular(path.with_suffix(SIDECAR)) as file:
            data = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise unreadable(name, error.strerror or str(error)) from error
    if len(data) > MAX_SIDECAR_BYTES:
        raise unreadable(name, f"more than {MAX_SIDECAR_BYTES:,} bytes")
    sidecar = Sidecar.from_json(data, name)
    if path.stem != sidecar.key.stem:
        raise unreadable(name, f"it describes {sidecar.key.stem}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BackendError(
            f"the plan {path.name} cannot be read ({error.strerror or error})",
            "the plan that its sidecar describes",
            f"build it again: {rebuild_command(sidecar, cache=_stated_cache(path))}",
        ) from error
    if size != sidecar.plan_bytes:
        raise BackendError(
            f"{path.name} has {size:,} bytes",
            f"{sidecar.plan_bytes:,} bytes, as its sidecar says",
            f"it was cut short or changed; build it again: {rebuild_command(sidecar, cache=_stated_cache(path))}",
        )
    return sidecar


def read_engine(path: Path, machine: Machine) -> bytes:
    """The plan's bytes, after everything about it was checked; only then may a library deserialise them.

    Raises:
        BackendError: It lies in a bundle or a folder that others can write, its sidecar is missing or another's, it
            was built for another machine, or its bytes are not those that were built. The message has the command
            that builds the engine again.
    """
    if any((parent / MANIFEST).exists() and (parent / "graphs").exists() for parent in path.resolve().parents):
        raise BackendError(
            f"the engine {path.name} inside a model bundle",
            "an engine that this machine built: a plan is code, and a bundle may come from anybody",
            "build it here with 'verdiff build'",
        )
    _check_private(path.parent)
    sidecar = read_sidecar(path)
    require_match(sidecar, machine)
    return read_plan(path, sidecar)


def read_plan(path: Path, sidecar: Sidecar) -> bytes:
    """The plan's bytes if they are those that its sidecar names, whatever machine they are for.

    Raises:
        BackendError: They are not; the message has the command that builds the engine again.
    """
    try:
        with open_regular(path) as file:
            plan = file.read(sidecar.plan_bytes + 1)
    except OSError as error:
        raise unreadable(path.name, error.strerror or str(error)) from error
    found = hashlib.sha256(plan).hexdigest()
    if found != sidecar.plan_sha256:
        raise BackendError(
            f"{path.name} has SHA-256 {found}",
            f"{sidecar.plan_sha256}, as its sidecar says",
            f"it was changed or damaged; build it again: {rebuild_command(sidecar, cache=_stated_cache(path))}",
        )
    return plan


def place_file(path: Path, data: bytes) -> None:
    """Write a file of this user's own whole or not at all.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    with _refusals_of_the_cache(path), atomic_path(path) as temporary:
        _write_private(temporary, data)


def _write_private(place: Path, data: bytes) -> None:
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


@contextmanager
def _refusals_of_the_cache(path: Path) -> Iterator[None]:
    """What the disk refuses, with a remedy for engines."""
    try:
        yield
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise _not_writable(path, error.__cause__) from error
        raise


def _stated_cache(path: Path) -> Path | None:
    """The ``--cache`` of the folder that a plan lies in; None for the one that is used without it."""
    folder = path.absolute().parent
    try:
        usual = cache_path().absolute()
    except BackendError:
        # This user has no home folder, and so no cache but a named one.
        usual = None
    return None if folder == usual or folder.name != ENGINES else folder.parent


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _check_private(folder: Path) -> None:
    if os.name != "posix":
        return
    try:
        status = folder.stat()
    except OSError as error:
        raise _not_readable(folder, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise BackendError(
            f"{folder} is no folder", "a folder for engines", f"remove it, or name another in {CACHE_VARIABLE}"
        )
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & WRITABLE_BY_OTHERS:
        raise BackendError(
            f"the engine folder {folder} belongs to user {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
            "a folder that only this user can write, since an engine is code",
            f"chmod 700 {folder}, or name another folder in {CACHE_VARIABLE}",
        )


def _not_readable(folder: Path, error: OSError) -> BackendError:
    return BackendError(
        f"the engine folder {folder} cannot be read ({error.strerror or error})",
        "a folder of this user",
        f"check its permissions, or name another in {CACHE_VARIABLE}",
    )


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written ({error.strerror or error})",
        "a folder for engines that can be written, with room on its disk",
        f"free some space, or name another folder in {CACHE_VARIABLE} or with --cache",
    )
