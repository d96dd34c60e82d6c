"""How long a user waits before anything happens: imports and the command line's help, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from verdiff.benchmarks.cases import Figure, Options, Outcome
from verdiff.benchmarks.harness import interleave
from verdiff.errors import BackendError

BARE = "python, nothing imported"
IMPORT = "import verdiff.runtime"
HELP = "verdiff --help"
COMMANDS: dict[str, tuple[str, ...]] = {
    BARE: ("-c", "pass"),
    IMPORT: ("-c", "import verdiff.runtime"),
    # What the installed command does, whether or not it is on the PATH.
    HELP: ("-c", "import sys; sys.argv = ['verdiff', '--help']; from verdiff.cli import main; main()"),
}
AIMS_S = {IMPORT: 0.4, HELP: 0.5}

Launch = Callable[[Sequence[str]], object]


def launch(arguments: Sequence[str]) -> None:
    """Run Python with these arguments to its end.

    Raises:
        BackendError: It ended with an error.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise BackendError(
            f"python {' '.join(arguments)} ended with code {done.returncode}: {last}",
            "an installed verdiff",
            "pip install verdiff with one of its extras [cpu] [gpu] [openvino]",
        )


def run(options: Options, launch: Launch = launch) -> Outcome:
    """Time the interpreter alone, the runtime's import and the help."""

    def rival(arguments: tuple[str, ...]) -> Callable[[], object]:
        return lambda: launch(arguments)

    timings = interleave(
        {name: rival(arguments) for name, arguments in COMMANDS.items()},
        repeats=options.repeats,
        warmup=options.warmup,
        between=lambda: None,
        on_round=options.on_round,
    )
    return Outcome(
        timings=timings,
        baseline=None,
        figures=tuple(Figure(name, timings[name].median, "s", at_most=limit) for name, limit in AIMS_S.items()),
        notes=("Wall time of a whole process; files are in the system's cache after the warm-up.",),
    )
