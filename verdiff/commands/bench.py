"""``verdiff bench``: time the runtime on this machine, or compare two records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import BENCH_CASES, BENCH_NEEDS
from verdiff.commands.options import A_MODEL, Gpu, Overwrite, Threads, one_of, takes_options, unfit
from verdiff.commands.printing import say, show
from verdiff.commands.progress import busy
from verdiff.options import TrustOptions


@takes_options
def bench(
    case: Annotated[
        str,
        typer.Argument(
            callback=one_of("list", "compare", *BENCH_CASES), help="What to time; 'list' names the cases; or 'compare'."
        ),
    ] = "list",
    records: Annotated[list[Path] | None, typer.Argument(help="With compare: two records, before and after.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="The record, as .json, or with a page to look at, as .html."
        ),
    ] = None,
    scan: Annotated[Path | None, typer.Option(help="A scan to time on; for throughput also a folder of scans.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="An expert's mask of --scan, to give the Dice beside the times.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=A_MODEL)] = None,
    run: Annotated[Path | None, typer.Option(help="The training run behind the bundle, for PyTorch's weights.")] = None,
    data: Annotated[Path | None, typer.Option(help="An nnU-Net raw data set, for deadline and throughput.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold of --data whose validation cases are taken.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each rival.")] = 5,
    device: Gpu = "cuda:0",
    threads: Threads = None,
    overwrite: Overwrite = False,
    *,
    trust: TrustOptions,
) -> None:
    """Time the runtime against its rivals in one run, or compare two records (exit code 12: the second is worse)."""
    if len(records or ()) != (2 if case == "compare" else 0):
        raise unfit(f"'bench {case}' with {len(records or ())} records", "write 'bench compare BEFORE.json AFTER.json'")
    given = {"data": data, "scan": scan}
    needed = [name for name in BENCH_NEEDS.get(case, ()) if given[name] is None]
    if needed and len(needed) == len(BENCH_NEEDS[case]):
        raise unfit(f"'bench {case}' has nothing to run on", f"name it with --{' or --'.join(needed)}")
    if case in ("list", "compare") and trust != TrustOptions():
        raise unfit(f"'bench {case}' runs no model", "leave --expect-sha256 and --trusted-key out")
    from verdiff.benchmarks import running
    from verdiff.benchmarks.cases import Options
    from verdiff.runtime.backends import default_threads

    if case == "list":
        show(running.listing())
        return
    if case == "compare":
        raise typer.Exit(running.compare(*(records or ()), say=show))
    options = Options(
        bundle=model,
        scan=scan,
        reference=reference,
        data=data,
        fold=fold,
        training_run=run,
        repeats=repeats,
        threads=threads or default_threads(),
        device=device,
        say=say if output is not None else show,
    )
    with busy("measuring"):
        running.run(case, options, output=output, overwrite=overwrite, trust=trust)
