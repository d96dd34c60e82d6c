"""Packages that a command needs beside the lean runtime: refused by name before an import would fail."""

from __future__ import annotations

from importlib import util

from verdiff.errors import BackendError
from verdiff.extras import install


def require(command: str, packages: tuple[str, ...], *extras: str) -> None:
    """Refuse ``command`` where one of ``packages`` is missing; any of the extras brings them.

    Raises:
        BackendError: With the extra to install.
    """
    missing = [name for name in packages if util.find_spec(name) is None]
    if missing:
        raise BackendError(
            f"verdiff {command} without {' and '.join(missing)}",
            f"the packages of the extra {' or '.join(f'[{extra}]' for extra in extras)} beside the lean runtime",
            install(*extras),
        )
