"""The one family of errors verdiff raises, and the one table of exit codes.

Every message has three parts, in this order: what was found, what was expected, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar


class Remedy(str):
    """What to do, where one way is an option that not every caller has.

    It is text, the option's way first, and goes wherever a remedy goes.

    Attributes:
        option: Name of an option on a command line, such as ``"--orientation"``.
        otherwise: What is left to do without it.
    """

    option: str
    otherwise: str

    def __new__(cls, by_option: str, *, option: str, otherwise: str) -> Remedy:
        """``by_option`` names the option and says what to give it."""
        made = super().__new__(cls, f"{by_option}; or {otherwise}")
        made.option, made.otherwise = option, otherwise
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        return (self.removesuffix(f"; or {self.otherwise}"),), {"option": self.option, "otherwise": self.otherwise}


def remedy_with(remedy: str, options: Collection[str]) -> str:
    """A remedy as it helps a caller that has these options."""
    return remedy.otherwise if isinstance(remedy, Remedy) and remedy.option not in options else remedy


class VerdiffError(Exception):
    """Base of every error that verdiff raises on purpose.

    Args:
        found: What was met, with the value or the file that shows it.
        expected: What would have been right.
        remedy: The next thing the caller can do.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "verdiff failed for a reason it can name"

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        super().__init__(found, expected, remedy)
        self.found, self.expected, self.remedy = found, expected, remedy

    def __str__(self) -> str:
        return self.told()

    def told(self, options: Collection[str] | None = None) -> str:
        """The three lines; with ``options``, as a caller needs them that has no others."""
        remedy = self.remedy if options is None else remedy_with(self.remedy, options)
        return f"found: {self.found}\nexpected: {self.expected}\nto do: {remedy}"


class InputError(VerdiffError):
    """A scan, mask or folder that cannot be read or cannot be used."""

    exit_code = 3
    meaning = "the input file is missing, damaged or not an image verdiff can use"


class UnsuitableScanError(VerdiffError):
    """A readable scan that does not look like what the model was trained on."""

    exit_code = 4
    meaning = "the scan does not look like what the model was trained on (--force goes on)"


class BundleError(VerdiffError):
    """A model bundle that is missing, damaged, newer than this version, or unsafe to open."""

    exit_code = 5
    meaning = "the model bundle is missing, damaged, too new or unsafe"


class UntrustedBundleError(BundleError):
    """A bundle that may be whole, and is not the one that was pinned, or not signed by a key that is trusted."""

    exit_code = 16
    meaning = "the model bundle is not the one that was pinned, or not signed by a trusted key"


class BackendError(VerdiffError):
    """No inference backend, or a device or precision that is not there."""

    exit_code = 6
    meaning = "no usable inference backend, device or precision"


class OutputError(VerdiffError):
    """A result that cannot be written; nothing partial is left behind."""

    exit_code = 7
    meaning = "the result cannot be written (nothing partial is left)"


class BudgetError(VerdiffError):
    """A time or memory budget below the least that gives any mask."""

    exit_code = 8
    meaning = "the time or memory budget is below the least that gives a mask"


class DataError(VerdiffError):
    """A data set or a training configuration that cannot be trained or scored with."""

    exit_code = 9
    meaning = "the data set or the training configuration is not usable"


class VerificationError(VerdiffError):
    """An exported model that does not agree with what it was exported from; it is not written."""

    exit_code = 10
    meaning = "the exported model failed its checks and was not written"


class ServiceError(VerdiffError):
    """A server that cannot start or is shutting down, or a worker process that failed, was lost or is busy."""

    exit_code = 15
    meaning = "a server cannot start, or the worker process behind it failed"


SUCCESS = 0
USAGE = 2
EMPTY_MASK = 11
REGRESSION = 12
NOT_KEPT = 13
IMPLAUSIBLE = 14
SOME_FAILED = 17
INTERRUPTED = 130
# Of a process that a signal asked to end, less the signal's number.
SIGNALLED = 128


def family(error: type[VerdiffError] = VerdiffError) -> list[type[VerdiffError]]:
    """An error and every kind of it, in the order they stand in here."""
    return [error, *(each for kind in error.__subclasses__() for each in family(kind))]


EXIT_CODES: dict[int, str] = {
    SUCCESS: "done",
    USAGE: "the command line is wrong",
    **{error.exit_code: error.meaning for error in family()},
    EMPTY_MASK: "the mask was written and is empty: no structure was found",
    REGRESSION: "bench compare: the second record is worse than the first",
    NOT_KEPT: "distill: the student does not beat its teacher on validation; its run says so and has no best.pt",
    IMPLAUSIBLE: "the mask was written and is unlike the masks of the training data; the report says how",
    SOME_FAILED: "infer of several scans: some have no mask; the line of each and the summary say why",
    INTERRUPTED: "interrupted; files are either the old ones or the complete new ones",
    141: "nobody reads what is printed any more, and the command is for nothing else (models, info ...)",
    SIGNALLED + 15: "ended by SIGTERM; files are either the old ones or the complete new ones",
}
