"""The protocol's status codes, and which of them stands for an error of verdiff's."""

from __future__ import annotations

from enum import IntEnum

from verdiff.errors import BackendError, BudgetError, BundleError, InputError, ServiceError, VerdiffError
from verdiff.runtime import Cancelled


class Code(IntEnum):
    """Code of a STATUS message."""

    OK = 1
    UNKNOWN_ERROR = 2
    NOT_FOUND = 4
    BUSY = 6
    TIME_OUT = 7
    OVERFLOW = 8
    CHECKSUM_ERROR = 9
    CONFIG_ERROR = 10
    RESOURCE_ERROR = 11
    UNKNOWN_INSTRUCTION = 12
    NOT_READY = 13
    UNKNOWN_VERSION = 17
    HARDWARE_FAILURE = 18
    SHUT_DOWN = 19


class Refused(InputError):
    """A message that cannot be used.

    Args:
        code: What its STATUS says.
        final: Whether the connection cannot go on, because nobody knows where the next message begins.
    """

    def __init__(self, code: Code, found: str, expected: str, remedy: str, *, final: bool = False) -> None:
        super().__init__(found, expected, remedy)
        self.code, self.final = code, final


def code_of(error: VerdiffError) -> Code:
    """The code that stands for an error; the name of its class and its exit code go with it."""
    if isinstance(error, Refused):
        return error.code
    for kind, code in (
        (Cancelled, Code.OK),
        (BudgetError, Code.RESOURCE_ERROR),
        (InputError, Code.CONFIG_ERROR),
        (BackendError, Code.NOT_READY),
        (BundleError, Code.NOT_READY),
        (ServiceError, Code.HARDWARE_FAILURE),
    ):
        if isinstance(error, kind):
            return code
    # A scan unlike the training data, and what nobody foresaw.
    return Code.CONFIG_ERROR if error.exit_code == 4 else Code.UNKNOWN_ERROR
