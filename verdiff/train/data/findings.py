"""What can be wrong with a data set, as data: training stops at the first, ``verdiff data check`` lists them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from verdiff.errors import DataError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        case: The case it is about; ``None``: the data set as a whole.
        found: What was met.
        expected: What would have been right.
        remedy: What to do about it.
        fatal: Whether a model can not, or should not, be trained or scored with it.
    """

    case: str | None
    found: str
    expected: str
    remedy: str
    fatal: bool = True

    @property
    def text(self) -> str:
        """What was found, with the case it is about."""
        return self.found if self.case is None else f"case {self.case}: {self.found}"


def refuse_first(findings: Iterable[Finding]) -> None:
    """Raise the first fatal finding as a DataError that says how many more there are of its kind."""
    fatal = [finding for finding in findings if finding.fatal]
    if not fatal:
        return
    first, more = fatal[0], len(fatal) - 1
    found = f"{first.text} (and {more} more; verdiff data check lists all)" if more else first.text
    raise DataError(found, first.expected, first.remedy)
