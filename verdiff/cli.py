"""The command ``verdiff``: parse, call, print. What a command needs is imported when it is called."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from verdiff import __version__
from verdiff.commands.bench import bench
from verdiff.commands.build import build
from verdiff.commands.calibrate import calibrate
from verdiff.commands.compare import compare
from verdiff.commands.data import app as data_app
from verdiff.commands.data import convert, split
from verdiff.commands.distill import distill
from verdiff.commands.doctor import doctor
from verdiff.commands.dry_run import with_dry_run
from verdiff.commands.empty import has_empty_argument
from verdiff.commands.ending import Ended, end_in_order
from verdiff.commands.evaluate import evaluate
from verdiff.commands.export import export
from verdiff.commands.infer import infer
from verdiff.commands.info import info
from verdiff.commands.loudness import with_loudness
from verdiff.commands.models import models
from verdiff.commands.options import unfit
from verdiff.commands.placeholders import with_placeholders
from verdiff.commands.printing import open_streams, show, warn
from verdiff.commands.serve import serve
from verdiff.commands.sign import sign
from verdiff.commands.train import train
from verdiff.errors import INTERRUPTED, SUCCESS, InputError, VerdiffError

_OPTIONS = "verdiff.options"
_ROOM = "crop the scan, raise the limit (ulimit -v), or use a machine with more memory; files are as they were"
_UNREADABLE = (errno.EACCES, errno.ENAMETOOLONG)
OLD_OR_NEW = "files are either the old ones or the complete new ones"


class Commands(TyperGroup):
    """Turns the family of errors into three lines on stderr and its exit code; no traceback for what has a name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named, whose options a message may name."""
        name, command, rest = super().resolve_command(ctx, args)
        options = [] if command is None else command.params
        flags = {text for each in options if getattr(each, "is_flag", False) for text in each.opts}
        if has_empty_argument(rest, flags):
            raise unfit(
                "an empty argument, as a variable without a value leaves", "give what it stands for, or nothing"
            )
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
        except MemoryError as error:
            told = VerdiffError(
                "more memory is needed than this process can have", "enough memory for this call", _ROOM
            )
            warn(told.told())
            raise typer.Exit(told.exit_code) from error
        except OSError as error:
            # Python 3.11 asks of such a path whether it is there, and raises.
            if error.errno not in _UNREADABLE or error.filename is None:
                raise
            unreadable = InputError(
                f"{error.filename}: {error.strerror}", "a path that can be read", "correct it, or its permissions"
            )
            warn(unreadable.told())
            raise typer.Exit(unreadable.exit_code) from error
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
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The entry point of the console script."""
    open_streams()
    end_in_order()
    try:
        app(prog_name="verdiff")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"verdiff {__version__}")
        raise typer.Exit(SUCCESS)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diffusion segmentation of the spine: train, export, and masks that surgical software can trust."""


# 'infer' has a rehearsal of its own, of every scan; 'serve' and 'compare' write nothing or at once.
WRITING = (train, distill, export, calibrate, build, sign, evaluate, bench, convert, split)

# Command, its line in the list of commands, an example.
COMMANDS = (
    (infer, "Segment a scan, or many.", "verdiff infer scan.nii.gz --uncertainty --preview"),
    (
        train,
        "Train a model, or prepare its data.",
        "verdiff train spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR -o runs/spine-mr",
    ),
    (
        distill,
        "Train a denoiser of one to four steps from a run.",
        "verdiff distill runs/spine-mr --data $VERDIFF_DATA/Dataset101_SpineMR --steps 1 -o runs/one-step",
    ),
    (export, "Make a bundle of a run, or add a precision to a bundle.", "verdiff export --fp16"),
    (
        calibrate,
        "Measure margins of no-go surfaces on labelled patients.",
        "verdiff calibrate mine.verdiff --data $VERDIFF_DATA/Dataset101_SpineMR -o calibrated.verdiff",
    ),
    (
        build,
        "Build TensorRT engines of a model for this machine.",
        "verdiff build spine-mr-fp16.verdiff --precision fp16",
    ),
    (sign, "Sign a bundle.", "verdiff sign spine-mr.verdiff --key key.pem"),
    (serve, "Serve masks to navigation software or a PACS.", "verdiff serve --igtl 18944 --deadline-ms 10000"),
    (
        evaluate,
        "Score masks, or run a model on a data set and score it.",
        "verdiff evaluate masks/ $VERDIFF_DATA/Dataset101_SpineMR/labelsTr -o scores/",
    ),
    (
        compare,
        "Set earlier evaluations side by side.",
        "verdiff compare ours=scores/ours theirs=scores/theirs -o table/",
    ),
    (
        bench,
        "Time the runtime against its rivals, or compare records.",
        "verdiff bench volume --scan scan.nii.gz -o bench/",
    ),
    (info, "Say what a scan or a bundle is.", "verdiff info scan.nii.gz"),
    (models, "List the models that ship and the systems to train.", "verdiff models"),
    (doctor, "Check that this installation works on this machine.", "verdiff doctor --json"),
)


def _dressed(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with what all have: how loud it is, a rehearsal if it writes, words for values in its help."""
    return with_placeholders(with_loudness(with_dry_run(command) if command in WRITING else command))


for command, line, example in COMMANDS:
    app.command(short_help=line, epilog=f"Example: {example}")(_dressed(command))
for each in data_app.registered_commands:
    assert each.callback is not None
    each.callback = _dressed(each.callback)
app.add_typer(data_app, name="data", cls=Commands)


if __name__ == "__main__":
    main()
