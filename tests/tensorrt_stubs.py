"""Make the installed ``tensorrt-stubs`` usable: ``python -m tests.tensorrt_stubs``, which ``make lint`` needs once.

The package is generated and does not parse: a few methods have a parameter called ``in``, and one has a parameter
without a default behind those with one. It also lacks the marker without which mypy ignores types.
"""

from __future__ import annotations

import ast
import re
from importlib.metadata import files
from pathlib import Path

DISTRIBUTION = "tensorrt-stubs"
REPAIRS = (
    (re.compile(r"(\(self[^)]*, )in: "), r"\1input: "),
    (re.compile(r"(power: Weights = None, channel_axis: int)\)"), r"\1 = ...)"),
)


def repair(text: str) -> str:
    """The text of a stub file, so that it parses.

    Raises:
        SyntaxError: It has other faults than the known ones.
    """
    for pattern, replacement in REPAIRS:
        text = pattern.sub(replacement, text)
    ast.parse(text)
    return text


def main() -> None:
    """Repair every stub file of the installed package in its place, and mark the packages as typed."""
    for entry in files(DISTRIBUTION) or ():
        path = Path(str(entry.locate()))
        if path.suffix == ".pyi":
            path.write_text(repair(path.read_text("utf-8")), "utf-8")
            path.with_name("py.typed").touch()


if __name__ == "__main__":
    main()
