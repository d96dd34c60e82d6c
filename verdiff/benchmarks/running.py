"""The command ``verdiff bench`` without its parsing: run a case and write its record, or compare two records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from verdiff.benchmarks.cases import CASES, Options, require_case, run_case
from verdiff.benchmarks.compare import compare_records
from verdiff.benchmarks.inputs import require_inputs
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.recording import command_line, recorded
from verdiff.bundle import Trust
from verdiff.errors import REGRESSION, SUCCESS
from verdiff.options import TrustOptions


def listing() -> str:
    """The cases, a line each."""
    return "\n".join(f"{name:<20} {what}" for name, what in CASES.items())


def run(
    case: str,
    options: Options,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    trust: TrustOptions | None = None,
) -> Record:
    """Run one case and write its record.

    Args:
        case: A key of :data:`verdiff.benchmarks.cases.CASES`.
        options: What it is run with.
        output: A folder for ``CASE.json``, ``.csv``, ``.md`` and ``.png``, or the ``.json`` file, the others beside
            it; an ``.html`` file is a page to look at, beside all of them. None writes nothing.
        overwrite: Whether files that are not verdiff's may be replaced.
        trust: Which bundle the model must be.

    Raises:
        InputError: There is no such case, it needs an option that is missing, or a scan or mask cannot be read.
        UnsuitableScanError: The scan is not what the model was trained on.
        DataError: There is no such fold or run, the reference is on another grid, or the model has nothing to time.
        BundleError: The model cannot be opened, or is not the one that is trusted.
        BackendError: Nothing that could be timed is installed.
        OutputError: The record cannot be written, or a place is taken by a file that is not verdiff's.
    """
    trusted = trust or TrustOptions()
    require_case(case, options)
    require_inputs(case, options, Trust(trusted.sha256, trusted.trusted_key))
    return recorded(
        case,
        lambda: run_case(case, options),
        command=lambda output: repeatable_command(case, options, output),
        settings=options.settings(),
        output=output,
        inputs=options.inputs(),
        overwrite=overwrite,
        say=options.say,
    )


def compare(before: Path, after: Path, *, say: Callable[[str], object]) -> int:
    """Compare two records; returns the exit code.

    Raises:
        InputError: One of them is no record, or they are of different cases.
    """
    found = compare_records(before, after)
    say(found.to_markdown())
    return REGRESSION if found.regressions() else SUCCESS


def repeatable_command(case: str, options: Options, output: str | None) -> str:
    """The command line that repeats a run; a path is cut to what means something on another machine."""
    return command_line(
        *("verdiff", "bench", case),
        options=[
            ("--model", None if options.bundle is None else Path(options.bundle)),
            ("--scan", options.scan),
            ("--reference", options.reference),
            ("--run", options.training_run),
            ("--data", options.data),
            ("--fold", None if options.data is None else options.fold),
            ("--device", options.device if case == "gpu" else None),
            ("--repeats", options.repeats),
            ("--threads", options.threads),
            ("--output", output),
        ],
    )
