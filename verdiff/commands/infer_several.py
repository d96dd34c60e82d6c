"""``verdiff infer`` of several scans: a line each, and where the whole stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verdiff.commands.printing import detail, warn
from verdiff.commands.progress import Remaining, busy, drawn
from verdiff.commands.progress import clock as clock_of
from verdiff.errors import SOME_FAILED, SUCCESS, OutputError
from verdiff.options import BatchOptions, InferOptions, LoadOptions
from verdiff.settings import part_of

if TYPE_CHECKING:
    from verdiff.batch import Asked, Batch, BatchCase, Row
    from verdiff.runtime import Segmenter


def run(
    cases: Sequence[BatchCase],
    output: Path | None,
    asked: Asked,
    *,
    batch_options: BatchOptions,
    say: Callable[[str], None],
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    """Segment several scans and return the exit code: done, or some of them have no mask.

    Args:
        cases: The scans.
        output: The folder for all files; None is beside each scan.
        asked: What is asked for of each.
        batch_options: What to do with the list.
        say: Takes a line a case, and the last ones.
        tell: Takes an object a case.

    Raises:
        VerdiffError: The list, the folder, the model or the disk is not usable.
    """
    from verdiff.batch import plan_batch
    from verdiff.batch.scan import margins_asked
    from verdiff.bundle import Trust, open_bundle, resolve_model

    options = asked.options
    bundle = open_bundle(resolve_model(options.model), trust=Trust(options.sha256, options.trusted_key))
    if asked.anatomy.wanted:
        from verdiff.anatomy.libraries import require_libraries

        require_libraries()
    margins_asked(bundle.manifest, asked.anatomy)
    with busy(f"looking at {len(cases)} scans"):
        batch = plan_batch(
            cases,
            output,
            asked,
            model_sha256=bundle.manifest_sha256,
            redo=batch_options.redo,
            leave_out_bad=batch_options.leave_out_bad,
        )
    if batch_options.dry_run:
        _look_at_place(options, batch_options.ray)
        return _dry_run(batch, say, tell)
    ended, total = 0, len(batch.bad) + len(batch.done) + len(batch.to_do)
    clock, doing = Remaining(len(batch.to_do)), "loading the model"

    def begin(what: str) -> None:
        nonlocal doing
        detail(doing)
        doing = what
        clock.start()

    def on_case(row: Row) -> None:
        nonlocal ended
        ended += 1
        if ended > len(batch.bad) + len(batch.done):
            clock.step()
        say(f"{ended}/{total} {row.line()}{clock.left()}")
        if tell is not None:
            tell(row.to_dict())

    try:
        with drawn(lambda seconds: f"{ended}/{total} {doing} {clock_of(seconds)}{clock.left()}"):
            if batch_options.ray is None:
                rows = _here(batch, options, begin, on_case, clock.within)
            else:
                rows = _on_ray(batch, options, batch_options, bundle.manifest_sha256, begin, on_case)
    except (KeyboardInterrupt, SystemExit, OutputError):
        if ended:
            warn(f"{ended} of {total} scans have ended; the same command goes on with the others")
        raise
    lacking = sum(not row.has_mask for row in rows)
    counts = Counter(row.status for row in rows)
    say(", ".join(f"{number} {status}" for status, number in counts.items()))
    say(f"wrote {batch.summary}")
    return SOME_FAILED if lacking else SUCCESS


def _look_at_place(options: InferOptions, ray: str | None) -> None:
    """Refuse what the batch would run with and cannot: the device, the backend, the precision, or Ray itself."""
    if ray is not None:
        # What the workers' machines have is known there.
        from verdiff.batch.ray_cluster import require_ray

        require_ray()
        return
    from verdiff.runtime import Segmenter

    with busy("loading the model"):
        Segmenter.load(**part_of(options, LoadOptions)).close()


def _here(
    batch: Batch,
    options: InferOptions,
    begin: Callable[[str], None],
    on_case: Callable[[Row], None],
    on_share: Callable[[float], None],
) -> list[Row]:
    from verdiff.batch import run_batch
    from verdiff.runtime import Segmenter

    def load() -> Segmenter:
        segmenter = Segmenter.load(**part_of(options, LoadOptions))
        begin("segmenting")
        return segmenter

    return run_batch(batch, load, on_case=on_case, on_share=on_share)


def _on_ray(
    batch: Batch,
    options: InferOptions,
    batch_options: BatchOptions,
    model_sha256: str,
    begin: Callable[[str], None],
    on_case: Callable[[Row], None],
) -> list[Row]:
    from verdiff.batch import WorkerPlan, run_on_ray
    from verdiff.batch.ray_cluster import require_ray

    address = batch_options.ray
    assert address is not None
    # What is missing is told before a cluster starts, or a row is.
    require_ray()
    begin(f"on Ray ({address})")
    plan = WorkerPlan(options, model_sha256)
    return run_on_ray(batch, plan, address, on_case=on_case, on_note=warn, patience=batch_options.patience)


def _dry_run(batch: Batch, say: Callable[[str], None], tell: Callable[[dict[str, Any]], None] | None) -> int:
    for row in (*batch.bad, *batch.done):
        say(row.line())
    for task in batch.to_do:
        say(f"{task.name}: would segment {task.case.scan} -> {task.files.mask}")
    say(f"would write {batch.summary}")
    if tell is not None:
        for row in (*batch.bad, *batch.done):
            tell(row.to_dict())
        for task in batch.to_do:
            tell({"case": task.name, "scan": str(task.case.scan), "status": "to do", "mask": str(task.files.mask)})
    return SOME_FAILED if batch.bad else SUCCESS
