"""How long a user waits from nothing, each time in a fresh process: imports, help, doctor, and a scan's first mask."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from verdiff.benchmarks.cases import Figure, Findings, Options
from verdiff.benchmarks.cold import ColdStart
from verdiff.benchmarks.file_to_file import BACKENDS
from verdiff.benchmarks.harness import interleave
from verdiff.benchmarks.timing import Timing, stage_timings
from verdiff.bundle import resolve_model
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.files import scratch_folder

BARE = "python, nothing imported"
IMPORT = "import verdiff.runtime"
HELP = "verdiff --help"
DOCTOR = "verdiff doctor"
INFER = "verdiff infer"
# What the installed command does, whether or not it is on the PATH.
CLI = "import sys; sys.argv[0] = 'verdiff'; from verdiff.cli import main; main()"
# The same for a command that says by exit code 1 what it found, which takes as long.
FINDING = """
import sys
sys.argv[0] = "verdiff"
from verdiff.cli import main
try:
    main()
except SystemExit as end:
    sys.exit(0 if end.code == 1 else end.code)
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    BARE: ("-c", "pass"),
    IMPORT: ("-c", "import verdiff.runtime"),
    HELP: ("-c", CLI, "--help"),
    DOCTOR: ("-c", FINDING, "doctor"),
}
AIMS_S = {IMPORT: 0.4, HELP: 0.5, DOCTOR: 2.0}

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
            install("cpu", "gpu", "openvino"),
        )


def run(options: Options, launch: Launch = launch) -> Findings:
    """Time bare Python, the runtime's import, the help and ``verdiff doctor``; with a scan also its first mask.

    The first mask is timed in each backend that is there, and as ``verdiff infer`` writes it.

    Raises:
        InputError: The scan cannot be read.
        BundleError: The bundle cannot be opened.
        BackendError: A command failed.
    """

    def rival(arguments: tuple[str, ...]) -> Callable[[], object]:
        return lambda: launch(arguments)

    rivals = {name: rival(arguments) for name, arguments in COMMANDS.items()}
    cold: dict[str, ColdStart] = {}
    left_out: dict[str, str] = {}
    with scratch_folder() as folder:
        if options.scan is not None:
            cold, left_out = _cold(options, Path(folder))
            infer = ["-c", CLI, "infer", str(options.scan), "-o", str(Path(folder) / "infer.nii.gz")]
            infer += ["--threads", str(options.threads)]
            infer += [] if options.bundle is None else ["--model", str(options.bundle)]
            rivals |= {INFER: rival(tuple(infer))} | {name: each.run for name, each in cold.items()}
        timings = interleave(
            rivals,
            repeats=options.repeats,
            warmup=options.warmup,
            between=lambda: None,
            on_round=options.say_round,
        )
    stages = {name: stage_timings(each.stages[-options.repeats :]) for name, each in cold.items()}
    # The process goes on to a second call; what counts is when the first mask was written.
    timings |= {
        name: Timing(tuple(sum(s.values()) for s in each.stages[-options.repeats :])) for name, each in cold.items()
    }
    second = {name: Timing(tuple(each.second_s[-options.repeats :])) for name, each in cold.items()}
    figures = [Figure(name, timings[name].median, "s", at_most=limit) for name, limit in AIMS_S.items()]
    for name in cold:
        first, later = stages[name]["segment"].median, second[name].median
        figures.append(Figure(f"first call after load over the second, {name}", first / later, ""))
        figures.append(Figure(f"second call in the same process, {name}", later, "s"))
    return Findings(
        timings=timings,
        baseline=None,
        stages=stages,
        figures=tuple(figures),
        subject={} if options.scan is None else {"scan": options.scan.name, "threads": options.threads},
        left_out=left_out,
        notes=(
            "Wall time of a whole process; files are in the system's cache after the warm-up. A first mask is timed "
            "from the start of a process until the mask is written; 'start' is the interpreter, numpy and the harness.",
        ),
    )


def _cold(options: Options, folder: Path) -> tuple[dict[str, ColdStart], dict[str, str]]:
    """The backends that give a first mask here, each tried once, which is a warm-up too; and why the others do not."""
    assert options.scan is not None
    model, scan = resolve_model(options.bundle), options.scan
    there: dict[str, ColdStart] = {}
    left_out: dict[str, str] = {}
    for number, (name, (backend, precision)) in enumerate(BACKENDS.items()):
        start = ColdStart(scan, folder / f"{number}.nii.gz", model, backend, precision, options.threads)
        try:
            start.run()
        except BackendError as error:
            left_out[name] = error.found
        else:
            there[f"first mask, {name}"] = start
    return there, left_out
