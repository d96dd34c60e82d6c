"""The command ``verdiff bench`` without its parsing: run a case and write its record, or compare two records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from verdiff.benchmarks.cases import CASES, Options, run_case
from verdiff.benchmarks.compare import compare_records
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.recording import command_line, recorded
from verdiff.bundle import Trust, open_bundle, resolve_model
from verdiff.errors import REGRESSION, SUCCESS, InputError
from verdiff.options import TrustOptions
from verdiff.runtime.backends import default_threads


def run(
    case: str,
    *,
    output: str | Path | None = None,
    scan: str | Path | None = None,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    training_run: str | Path | None = None,
    data: str | Path | None = None,
    fold: int = 0,
    repeats: int = 5,
    warmup: int = 2,
    threads: int | None = None,
    seed: int = 35,
    device: str = "cuda:0",
    overwrite: bool = False,
    trust: TrustOptions | None = None,
    say: Callable[[str], object] = print,
) -> Record | None:
    """Run one case and write its record.

    Args:
        case: A key of :data:`verdiff.benchmarks.cases.CASES`; ``"list"`` only names them.
        output: A folder for ``CASE.json``, ``.csv``, ``.md`` and ``.png``, or the ``.json`` file, the others beside
            it; an ``.html`` file is a page to look at, beside all of them. None writes nothing.
        scan: The scan, for the cases ``volume``, ``throughput`` and ``startup``; a folder of them for ``throughput``.
        reference: The expert's mask of the scan, for the case ``volume``.
        model: A shipped model's name or a bundle; None is the default model.
        training_run: The run behind the bundle: PyTorch then computes with its weights.
        data: An nnU-Net raw data set, for the cases ``deadline`` and ``throughput``.
        fold: The fold whose validation cases are taken from the data set.
        repeats: Timed rounds.
        warmup: Rounds before them.
        threads: CPU threads of each rival; None is every core this process may use.
        seed: Seed of whatever is drawn.
        device: The GPU, for the case ``gpu``.
        overwrite: Whether files that are not verdiff's may be replaced.
        trust: Which bundle the model must be.
        say: Takes the lines to print.

    Returns:
        The record; None for ``"list"``.

    Raises:
        InputError: There is no such case, or it needs an option that is missing.
        BundleError: The model cannot be opened, or is not the one that is trusted.
        BackendError: Nothing that could be timed is installed.
        OutputError: The record cannot be written, or a place is taken by a file that is not verdiff's.
    """
    if case == "list":
        for name, what in CASES.items():
            say(f"{name:<20} {what}")
        return None
    if trust is not None and trust != TrustOptions():
        open_bundle(resolve_model(model), trust=Trust(trust.sha256, trust.trusted_key))
    options = Options(
        bundle=model,
        scan=None if scan is None else Path(scan),
        reference=None if reference is None else Path(reference),
        training_run=None if training_run is None else Path(training_run),
        data=None if data is None else Path(data),
        fold=fold,
        repeats=repeats,
        warmup=warmup,
        threads=default_threads() if threads is None else threads,
        seed=seed,
        device=device,
        on_round=lambda number: say(f"round {number} of {repeats}"),
        say=say,
    )
    return recorded(
        case,
        lambda: run_case(case, options),
        command=lambda output: repeatable_command(case, options, output),
        settings=options.settings(),
        output=output,
        inputs={"scan": scan, "reference": reference, "model": model, "run": training_run, "data set": data},
        overwrite=overwrite,
        say=say,
    )


def compare(case: str, records: Sequence[Path], *, say: Callable[[str], object] = print) -> int:
    """Compare two records; returns the exit code.

    Raises:
        InputError: There are not two records, or they are none, or of different cases.
    """
    if case != "compare" or len(records) != 2:
        raise InputError(
            f"bench {case} with {len(records)} records",
            "two records to compare, or none",
            "verdiff bench compare BEFORE.json AFTER.json",
        )
    found = compare_records(*records)
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
