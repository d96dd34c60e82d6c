"""What a batch says and keeps of its cases, whoever computes them: a row each, and the summary in the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from verdiff.batch.held import held
from verdiff.batch.planning import Batch
from verdiff.batch.rows import Row, rows_in, table
from verdiff.files import made_by_verdiff

# A batch that is killed leaves a summary that is no older; the next run makes it anew of the reports.
_SUMMARY_EVERY_SECONDS = 30.0


class Ledger:
    """The rows of a batch in the order things ended, and its summary, which is written anew now and then."""

    def __init__(self, batch: Batch, on_case: Callable[[Row], None]) -> None:
        self.rows: list[Row] = []
        self._batch, self._on_case = batch, on_case
        self._written = monotonic()

    def tell(self, row: Row) -> None:
        """One case has ended.

        Raises:
            OutputError: The summary was due and cannot be written.
        """
        self.rows.append(row)
        self._on_case(row)
        if monotonic() - self._written > _SUMMARY_EVERY_SECONDS:
            self.write()
            self._written = monotonic()

    def write(self) -> None:
        """Write the summary of the folder: these rows, and those of earlier calls for other scans.

        Raises:
            OutputError: It cannot be written.
        """
        batch = self._batch
        # Two scans of a call may have one name, where one of them was left out for that.
        again = {row.case for row in self.rows}
        earlier = rows_in(batch.summary) if made_by_verdiff(batch.summary) else []
        kept = [{**row, "when": "earlier"} for row in earlier if row["case"] not in again]
        with batch.plan_summary().staged() as staged:
            staged[batch.summary].write_text(table([*kept, *(row.cells() for row in self.rows)]), "utf-8")


@contextmanager
def ledger(batch: Batch, on_case: Callable[[Row], None]) -> Iterator[Ledger]:
    """Hold the folder of a batch, tell what is bad or done already, and write the summary however the block ends.

    Args:
        batch: What :func:`verdiff.batch.plan_batch` made of the list.
        on_case: Called with each row.

    Raises:
        OutputError: Another batch has the folder, or the summary cannot be written.
    """
    kept = Ledger(batch, on_case)
    with held(batch.folder):
        try:
            for row in (*batch.bad, *batch.done):
                kept.tell(row)
            yield kept
        finally:
            if kept.rows:
                kept.write()
