"""How verdiff's extras are installed: one phrase, so that every message names a command that works.

verdiff is on no package index. ``pip install verdiff`` would find nothing, or somebody else's package.
"""

from __future__ import annotations

from verdiff import __version__

WHEEL = f"verdiff-{__version__}-py3-none-any.whl"


def install(*extras: str, flags: str = "", packages: str = "") -> str:
    """The command that installs verdiff with an extra, from a checkout or from a wheel.

    Args:
        extras: The first is installed, or several joined by a comma; the others are named as alternatives to it. None
            for the bare package.
        flags: Options of pip, before what is installed.
        packages: Requirements of other packages beside it, quoted for a shell.
    """
    wanted = f"[{extras[0]}]" if extras else ""
    checkout = f"'.{wanted}'" if wanted else "."
    words = ["pip install", flags, checkout, packages]
    others = f" (or {', or '.join(f'[{extra}]' for extra in extras[1:])})" if extras[1:] else ""
    command = " ".join(word for word in words if word)
    return f"{command}{others} in verdiff's checkout, or with '{WHEEL}{wanted}' from its 'make wheel'"


def upgrade() -> str:
    """How a newer verdiff is installed."""
    return "upgrade verdiff: update its checkout and pip install . there, or install a newer wheel"
