"""What a supervisor says of jobs and workers that did not end well, in one place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from verdiff.errors import BudgetError, ServiceError, VerdiffError
from verdiff.runtime import Cancelled


def shutting_down() -> ServiceError:
    """The end has come."""
    return ServiceError(
        "the service is shutting down", "a service that runs", "send the scan again when it has been started again"
    )


@contextmanager
def listening(host: str, port: int, option: str) -> Iterator[None]:
    """Name the address that cannot be listened on.

    Args:
        host: Its host.
        port: Its port.
        option: What chooses the port.

    Raises:
        ServiceError: The port is taken or none, or the host is none of this machine's, or no name of one.
    """
    try:
        yield
    except (OSError, OverflowError, UnicodeError) as error:
        raise _not_listening(host, port, error, option) from error


def _not_listening(host: str, port: int, error: Exception, option: str) -> ServiceError:
    # The text of asyncio and of socket names the address once more; names that are not known have no positive number.
    number = getattr(error, "errno", None) or 0
    why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
    return ServiceError(
        f"{host}:{port} cannot be listened on: {why}",
        "an address of this machine and a free port",
        f"end what listens there, or choose another {option} or --host",
    )


def no_worker(failure: VerdiffError) -> ServiceError:
    """The last load failed with ``failure``."""
    return ServiceError(f"no worker: {failure.found}", failure.expected, failure.remedy)


def queue_is_full(waiting: int, most: int) -> ServiceError:
    """One job more than may wait."""
    return ServiceError(
        f"{waiting} jobs are waiting already", f"at most {most}", "send it again when others are done, or cancel some"
    )


def load_took_too_long(seconds: float) -> ServiceError:
    """A load that went on for longer than its limit."""
    return ServiceError(
        f"the worker took more than {seconds:g} s to load its model",
        "a model that loads in time",
        "raise load_s, or end what keeps this machine busy",
    )


def ended_while_loading(how: str) -> ServiceError:
    """A worker that was gone before it was ready; ``how`` it ended."""
    return ServiceError(
        f"the worker ended {how} while it loaded its model",
        "a worker that comes up",
        "look at its messages on standard error; verdiff doctor checks this machine",
    )


def worker_was_ended(how: str, why: str) -> ServiceError:
    """A worker that was lost, or killed, with its job."""
    return ServiceError(
        f"the worker was ended {how} {why}".strip(),
        "a worker that ends each job",
        "send the scan again: a new worker is being loaded; if it happens again, report the scan",
    )


def too_late(limit: str) -> BudgetError:
    """A job that had no mask of every slice when it was cancelled for being late."""
    return BudgetError(
        f"no mask of every slice after {limit}",
        "time for the prior of every slice",
        "allow more time, or send a smaller scan",
    )


def waited_too_long() -> BudgetError:
    """A deadline that came before the worker did."""
    return BudgetError(
        "the deadline passed while the job waited",
        "a worker that is free in time",
        "allow more time, or cancel the jobs before it",
    )


def cancelled_while_waiting() -> Cancelled:
    """A job that the worker never had."""
    return Cancelled("a job that was cancelled while it waited", "a job that is let alone", "send it again")
