"""Lanes: several slices at once, each on its share of the processor.

Two network calls on a core each do more in the same time than one call on both: within a network the cores wait for
one another at every layer, and what is not a convolution runs on one core alone. Whatever the host does for a slice
in between (noise, fusion, resampling) is spread over the same workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# A lane holds a slice's working memory, and a call ends no sooner than its slowest slice.
MOST_LANES = 8


def lane_count(threads: int) -> int:
    """Lanes for so many threads; each has ``threads // lanes`` of them."""
    return max(1, min(threads, MOST_LANES))


class Lanes:
    """Workers for the length of one call.

    Args:
        count: How many things are done at once; 1 starts no thread.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="verdiff-lane") if count > 1 else None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``function`` of each item, in order; an exception of any is raised once all have ended."""
        todo = list(items)
        if self._pool is None or len(todo) < 2:
            return [function(item) for item in todo]
        futures = [self._pool.submit(function, item) for item in todo]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            # After an error nobody waits for what has not begun.
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
