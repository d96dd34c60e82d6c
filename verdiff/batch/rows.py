"""What happened to each case: a line for people, a row of the summary, an object for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verdiff.errors import EMPTY_MASK, IMPLAUSIBLE, SUCCESS, UnsuitableScanError, VerdiffError

DONE, EMPTY, DOUBTFUL, REFUSED, FAILED = "done", "empty", "doubtful", "refused", "failed"
_COLUMNS = ("case", "status", "exit_code", "when", "seconds", "scan", "mask")
_LAST = ("says",)


@dataclass(frozen=True)
class Row:
    """What happened to one case.

    Attributes:
        case: The name of its files.
        scan: Name of the scan, as it was given.
        status: ``done``, ``empty`` (no structure was found) and ``doubtful`` (unlike the training masks) have a mask;
            ``refused`` (unlike the training data) and ``failed`` have none.
        exit_code: What ``verdiff infer`` of this scan alone ends with.
        earlier: Whether it was done before this call, which left it as it is.
        seconds: Time of reading, running and writing in the call that did it; None where there is no mask.
        mask: Its name.
        volumes_ml: Volume by structure.
        says: Warnings and what was forced, or the error.
        report: What the JSON beside the mask holds; None where there is no mask.
    """

    case: str
    scan: str
    status: str
    exit_code: int
    earlier: bool = False
    seconds: float | None = None
    mask: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    says: str = ""
    report: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def has_mask(self) -> bool:
        """Whether its files are there."""
        return self.status in (DONE, EMPTY, DOUBTFUL)

    def line(self) -> str:
        """The case in one line."""
        took = "" if self.seconds is None else f" in {self.seconds:.1f} s"
        what = f"{self.status} earlier" if self.earlier else f"{self.status}{took}"
        return f"{self.case}: {what}{f': {self.says}' if self.says else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The case as plain JSON values, with its report."""
        return {
            "case": self.case,
            "scan": self.scan,
            "status": self.status,
            "exit_code": self.exit_code,
            "earlier": self.earlier,
            "says": self.says,
            "report": self.report,
        }

    def cells(self) -> dict[str, str]:
        """The case as cells of the summary."""
        return {
            "case": self.case,
            "status": self.status,
            "exit_code": str(self.exit_code),
            "when": "earlier" if self.earlier else "now",
            "seconds": "" if self.seconds is None else f"{self.seconds:.3f}",
            "scan": self.scan,
            "mask": self.mask,
            **{f"{name}_ml": f"{volume:.4f}" for name, volume in self.volumes_ml.items()},
            "says": self.says,
        }


def row_of_report(case: str, scan: str, report: Mapping[str, Any], *, earlier: bool = False) -> Row:
    """The row of a case whose files are there, from their report."""
    provenance, timings = report["provenance"], report["timings_s"]
    warnings = provenance.get("warnings", ())
    says = [each["text"] for each in warnings] + [f"forced past: {each}" for each in provenance.get("forced", ())]
    status, code = DONE, SUCCESS
    if report["outcome"] == "empty mask":
        status, code = EMPTY, EMPTY_MASK
    elif any(each["of_mask"] for each in warnings):
        status, code = DOUBTFUL, IMPLAUSIBLE
    if report["outcome"] in ("budget", "prior", "cancelled") and provenance.get("outcome") != "complete":
        says.insert(0, f"outcome {report['outcome']}")
    seconds = sum(timings.get(name, 0.0) for name in ("read", "total", "anatomy", "margins", "page", "write"))
    mask = report["files"]["mask"]
    return Row(case, scan, status, code, earlier, seconds, mask, report["volumes_ml"], "; ".join(says), report)


def row_of_error(case: str, scan: str, error: BaseException) -> Row:
    """The row of a case that has no mask, in one line whatever the error says."""
    if isinstance(error, VerdiffError):
        told = f"{error.found}; expected: {error.expected}; to do: {error.remedy}"
        status = REFUSED if isinstance(error, UnsuitableScanError) else FAILED
        return Row(case, scan, status, error.exit_code, says=_one_line(told))
    if isinstance(error, MemoryError):
        return Row(case, scan, FAILED, VerdiffError.exit_code, says="this machine has not enough memory for it")
    told = f"{type(error).__name__}: {error}, which verdiff has no name for; please report it"
    return Row(case, scan, FAILED, VerdiffError.exit_code, says=_one_line(told))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as CSV; the columns of volumes are those of any row."""
    listed = list(rows)
    volumes = dict.fromkeys(key for row in listed for key in row if key.endswith("_ml"))
    out = io.StringIO()
    writer = csv.DictWriter(out, (*_COLUMNS, *volumes, *_LAST), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return out.getvalue()


def rows_in(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier summary, without the empty column that holds verdiff's mark; none where there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {key: value for key, value in row.items() if key in (*_COLUMNS, *_LAST) or key.endswith("_ml")}
                for row in csv.DictReader(file)
                if row.get("case")
            ]
    except (OSError, ValueError, csv.Error):
        return []
