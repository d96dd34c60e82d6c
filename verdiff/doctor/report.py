"""What a check found, and the report made of all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from verdiff.errors import VerdiffError

GOOD, NOTE, BAD = "ok", "note", "problem"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: ``"ok"``, ``"note"`` (nothing to do unless it is wanted) or ``"problem"``.
        found: What is there.
        remedy: What to do about it; empty when there is nothing to do.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


def refused(name: str, state: str, error: VerdiffError) -> Check:
    """A check that ended in one of verdiff's own errors."""
    return Check(name, state, error.found, error.remedy)


def healthy(checks: list[Check]) -> bool:
    """Whether nothing needs to be done before ``verdiff infer`` works."""
    return all(check.state != BAD for check in checks)


def as_json(checks: list[Check]) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def lines(checks: list[Check]) -> list[str]:
    """The report for people."""
    width = max([18, *(len(check.name) for check in checks)])
    found = []
    for check in checks:
        found.append(f"{check.state:<8} {check.name:<{width}} {check.found}")
        if check.remedy:
            found.append(f"{'':<{width + 9}} to do: {check.remedy}")
    return found


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution; None where pip knows none of that name."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def first_line(error: Exception) -> str:
    """What went wrong, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
