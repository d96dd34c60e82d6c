"""A table from its command: the options made whole, a sitting of the queue, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studies.training.folder import TableOptions
from studies.training.queue import Sitting
from studies.training.queue import run as go_through
from verdiff.errors import VerdiffError
from verdiff.runtime.backends import default_threads
from verdiff.train import nnunetv2_adapter


def run(
    study: str,
    data: Path,
    output: Path,
    *,
    minutes: float | None = None,
    groups: Path | None = None,
    records: Sequence[Path] = (),
    threads: int | None = None,
    say: Callable[[str], None] = print,
    **given: Any,
) -> Sitting:
    """One sitting of a table.

    Args:
        study: A key of :data:`~studies.training.plans.PLANS`.
        data: An nnU-Net raw data set or a cache.
        output: The queue's folder.
        minutes: Minutes of this sitting; None: until all is done.
        groups: A CSV file ``case,group`` of cases to look at apart.
        records: Folders of earlier records of this table, whose trainings are taken over.
        threads: CPU threads; None is every core this process may use.
        say: Takes a line of news.
        given: Further fields of :class:`~studies.training.folder.TableOptions`; budgets and seeds are the plan's
            where none are given.

    Raises:
        BackendError: The table has nnunetv2 in it, which is not installed.
        VerdiffError: The queue cannot be begun or gone on with; or some of its trainings could not go on, though all
            others were tried.
    """
    options = TableOptions(study, data, threads=default_threads() if threads is None else threads)
    plan = options.plan
    own = {"budget": plan.budget, "others": plan.others, "seeds": plan.seeds}
    options = replace(options, **{**own, **given})
    if any(model.real for model in plan.chosen(options.models, joined=bool(options.beside))):
        nnunetv2_adapter.require()
    sitting = go_through(options, output, minutes=minutes, groups=groups, records=records, say=say)
    for path in sitting.written:
        say(f"wrote {path}")
    if sitting.failed:
        name, why = next(iter(sitting.failed.items()))
        raise VerdiffError(
            f"{len(sitting.failed)} of {sitting.all} trainings could not go on; {name}: {why.splitlines()[0]}",
            "each to be trained to its budget",
            "mend what it says and give the same command again; the others are kept",
        )
    return sitting
