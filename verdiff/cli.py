"""The command ``verdiff``: parse, call, print. What a command needs is imported when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from verdiff import __version__
from verdiff.choices import BENCH_CASES, BENCH_NEEDS, GPU
from verdiff.commands import finishing, making, serving, using
from verdiff.commands.datasets import app as data_app
from verdiff.commands.ending import Ended, end_in_order
from verdiff.commands.options import (
    AsJson,
    Device,
    ExpectSha256,
    Orientation,
    Overwrite,
    Threads,
    TimePoint,
    TrustedKey,
    one_of,
    unfit,
    written_as,
)
from verdiff.commands.printing import open_streams, say, show, warn
from verdiff.errors import INTERRUPTED, SUCCESS, VerdiffError

_OPTIONS = "verdiff.options"
OLD_OR_NEW = "files are either the old ones or the complete new ones"


class Commands(TyperGroup):
    """Turns the family of errors into three lines on stderr and its exit code; no traceback for what has a name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named, whose options a message may name."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            ctx.meta[_OPTIONS] = {text for each in command.params for text in each.opts}
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except VerdiffError as error:
            warn(error.told(ctx.meta.get(_OPTIONS, ())))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            warn(f"interrupted; {OLD_OR_NEW}")
            raise typer.Exit(INTERRUPTED) from error
        except Ended as error:
            warn(f"ended by {error.name}; {OLD_OR_NEW}")
            raise


app = typer.Typer(
    name="verdiff",
    cls=Commands,
    help="Diffusion segmentation of the spine: train, export, and masks that surgical software can trust.",
    epilog="Example: verdiff infer scan.nii.gz",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The entry point of the console script."""
    open_streams()
    end_in_order()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"verdiff {__version__}")
        raise typer.Exit(SUCCESS)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diffusion segmentation of the spine: train, export, and masks that surgical software can trust."""


app.command(epilog="Example: verdiff infer scan.nii.gz --uncertainty --preview")(using.infer)
app.command(epilog="Example: verdiff train spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR -o runs/spine-mr")(
    making.train
)
app.command(
    epilog="Example: verdiff distill runs/spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR --steps 1 -o runs/one-step"
)(making.distill)
app.command(epilog="Example: verdiff export --fp16")(making.export)
app.command(
    epilog="Example: verdiff calibrate spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR -o spine-mr-margins.verdiff"
)(finishing.calibrate)
app.command(epilog="Example: verdiff build spine-mr --precision fp16")(making.build)
app.command(epilog="Example: verdiff sign spine-mr.verdiff --key key.pem")(finishing.sign)
app.add_typer(data_app, name="data", cls=Commands)
app.command(epilog="Example: verdiff serve --igtl 18944 --deadline-ms 10000")(serving.serve)


app.command(epilog="Example: verdiff evaluate masks/ $VERDIFF_DATA/Dataset101_SpineMR/labelsTr -o scores/")(
    using.evaluate
)
app.command(epilog="Example: verdiff compare ours=scores/ours theirs=scores/theirs -o table/")(using.compare)


@app.command(epilog="Example: verdiff bench volume --scan scan.nii.gz -o bench/")
def bench(
    case: Annotated[
        str,
        typer.Argument(
            callback=one_of("list", "compare", *BENCH_CASES), help="What to time; 'list' names the cases; or 'compare'."
        ),
    ] = "list",
    records: Annotated[list[Path] | None, typer.Argument(help="With compare: two records, before and after.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The record, as JSON.")] = None,
    scan: Annotated[Path | None, typer.Option(help="A scan to time on; for throughput also a folder of scans.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The expert's mask of --scan: its Dice beside the times.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model's name or a bundle.")] = None,
    run: Annotated[Path | None, typer.Option(help="The training run behind the bundle, for PyTorch's weights.")] = None,
    data: Annotated[Path | None, typer.Option(help="An nnU-Net raw data set, for deadline and throughput.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold of --data whose validation cases are taken.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each rival.")] = 5,
    device: Annotated[
        str, typer.Option(callback=written_as(GPU, "cuda or cuda:N"), help="The GPU of the case gpu: cuda or cuda:N.")
    ] = "cuda:0",
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Time the runtime against its rivals in one run, or compare two records (exit code 12: the second is worse)."""
    if len(records or ()) != (2 if case == "compare" else 0):
        raise unfit(f"'bench {case}' with {len(records or ())} records", "write 'bench compare BEFORE.json AFTER.json'")
    given = {"data": data, "scan": scan}
    needed = [name for name in BENCH_NEEDS.get(case, ()) if given[name] is None]
    if needed and len(needed) == len(BENCH_NEEDS[case]):
        raise unfit(f"'bench {case}' has nothing to run on", f"name it with --{' or --'.join(needed)}")
    from verdiff.benchmarks import running

    if case == "compare":
        raise typer.Exit(running.compare(case, records or [], say=show))
    running.run(
        case,
        output=output,
        scan=scan,
        reference=reference,
        model=model,
        training_run=run,
        data=data,
        fold=fold,
        repeats=repeats,
        device=device,
        threads=threads,
        overwrite=overwrite,
        say=say if output is not None else show,
    )


@app.command(epilog="Example: verdiff info scan.nii.gz")
def info(
    target: Annotated[str, typer.Argument(help="A scan, a bundle, or a shipped model's name.")],
    as_json: AsJson = False,
    orientation: Orientation = None,
    time_point: TimePoint = None,
    expect_sha256: ExpectSha256 = None,
    trusted_key: TrustedKey = None,
) -> None:
    """Say what a scan or a bundle is, and whether a bundle is the one that is trusted."""
    from verdiff.commands import inspect

    facts = inspect.info(
        target,
        orientation=orientation,
        time_point=time_point,
        expect_sha256=expect_sha256,
        trusted_key=trusted_key,
    )
    show(json.dumps(facts, indent=1) if as_json else "\n".join(inspect.lines(facts)))


@app.command(epilog="Example: verdiff models")
def models(as_json: AsJson = False) -> None:
    """List the models that ship with this installation and the systems that can be trained."""
    from verdiff.commands import inspect

    table = inspect.models()
    show(json.dumps(table, indent=1) if as_json else "\n".join(inspect.model_lines(table)))


@app.command(epilog="Example: verdiff doctor --json")
def doctor(
    device: Device = "cpu",
    model: Annotated[str | None, typer.Option(help="A bundle to check beside the shipped models.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that this installation works on this machine; exit code 1 when something needs to be done."""
    from verdiff import doctor as room

    checks = room.examine(device=device, model=model)
    show(json.dumps(room.as_json(checks), indent=1) if as_json else "\n".join(room.lines(checks)))
    raise typer.Exit(SUCCESS if room.healthy(checks) else VerdiffError.exit_code)


if __name__ == "__main__":
    main()
