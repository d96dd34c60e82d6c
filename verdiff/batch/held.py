"""One batch at a time in a folder: a hidden folder in it, with a lock that ends with the process that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from verdiff.errors import OutputError
from verdiff.files.locks import lock_folder, release
from verdiff.files.places import not_writable

NAME = ".verdiff-batch"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for a batch, made if it is missing; what a batch that was killed left does not hold it.

    Where the file system has no such locks nothing is held; two batches then do some scans twice and lose nothing,
    since the files of a scan appear together.

    Raises:
        OutputError: Another batch has it, or it cannot be made or written.
    """
    mine, lock = folder / NAME, None
    try:
        missing = not folder.exists()
        mine.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(mine, wait=False)
    except (BlockingIOError, FileNotFoundError) as error:
        raise OutputError(
            f"another batch is writing into {folder}",
            "one batch at a time in a folder",
            "wait for its end, or choose another folder with -o",
        ) from error
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            mine.rmdir()
        release(lock)
        if missing:
            # Stays where something was written.
            with suppress(OSError):
                folder.rmdir()
