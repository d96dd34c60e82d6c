"""A batch is run: while one scan is segmented the next is read and the one before is written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from verdiff.batch.ledger import ledger
from verdiff.batch.planning import Batch, BatchTask
from verdiff.batch.rows import Row, row_of_error, row_of_report
from verdiff.batch.scan import Read, read_scan, segment_scan
from verdiff.batch.written import WrittenScan, write_scan
from verdiff.errors import OutputError

if TYPE_CHECKING:
    from verdiff.runtime import Segmenter


def run_batch(
    batch: Batch,
    load: Callable[[], Segmenter],
    *,
    on_case: Callable[[Row], None],
    on_share: Callable[[float], None] | None = None,
) -> list[Row]:
    """Segment what is to do, and write the summary; the rows are in the order things ended.

    Reading and writing have a thread each, running has the caller's; at most one scan is read ahead and one is being
    written. A scan that cannot be read, segmented or written costs itself alone; a disk that takes no more
    ends the batch. However it ends, what was segmented is written, and the summary says what became of each scan so
    far: the same call goes on where this one stopped.

    Args:
        batch: Batch that :func:`verdiff.batch.plan_batch` gives.
        load: Loads the model; not called where nothing is to do.
        on_case: Called with each row, in the caller's thread: first those of the list that are bad or done.
        on_share: Called with the share of the scan in work that is done, 0 to 1, in the caller's thread.

    Raises:
        OutputError: Another batch has the folder, the disk is full or gone, or the summary cannot be written.
        VerdiffError: The model cannot be loaded.
    """
    with ledger(batch, on_case) as kept:
        if batch.to_do:
            with load() as segmenter:
                _run(batch.to_do, segmenter, kept.tell, on_share)
    return kept.rows


def _run(
    tasks: tuple[BatchTask, ...],
    segmenter: Segmenter,
    tell: Callable[[Row], None],
    on_share: Callable[[float], None] | None,
) -> None:
    writing: tuple[BatchTask, Future[WrittenScan]] | None = None

    def settle() -> None:
        """Wait for what is being written, and tell of it."""
        nonlocal writing
        if writing is None:
            return
        task, future = writing
        try:
            row = row_of_report(task.name, str(task.case.scan), future.result().report())
        except Exception as error:
            writing = None
            tell(_row_of_error(task, error))
            if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                # The disk takes no more, and the next scan would be computed for nothing.
                raise
            return
        writing = None
        tell(row)

    with ThreadPoolExecutor(1, "verdiff-read") as reader, ThreadPoolExecutor(1, "verdiff-write") as writer:
        ahead = reader.submit(_read, tasks[0])
        try:
            for task, following in pairwise((*tasks, None)):
                assert task is not None
                reading = ahead
                try:
                    read = reading.result()
                    if following is not None:
                        ahead = reader.submit(_read, following)
                    segmented = segment_scan(segmenter, read, progress=on_share)
                except Exception as error:
                    if following is not None and ahead is reading:
                        ahead = reader.submit(_read, following)
                    settle()
                    tell(_row_of_error(task, error))
                    continue
                settle()
                writing = task, writer.submit(write_scan, segmented)
            settle()
        except BaseException:
            ahead.cancel()
            settle()
            raise


def _read(task: BatchTask) -> Read:
    return read_scan(task.case.scan, task.output, task.asked, name=task.case.name)


def _row_of_error(task: BatchTask, error: Exception) -> Row:
    return row_of_error(task.name, str(task.case.scan), error)
