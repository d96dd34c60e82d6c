"""Time rivals side by side: every round runs each of them once, so that a drifting load hits them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from verdiff.benchmarks.timing import Timing
from verdiff.progress import done, stage

Clock = Callable[[], float]
SETTLE_S = 0.05


def settle() -> None:
    """Wait until the thread pool of the rival that ran last stops spinning and leaves the cores to the next."""
    time.sleep(SETTLE_S)


def interleave(
    rivals: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = 2,
    clock: Clock = time.perf_counter,
    between: Callable[[], object] = settle,
    on_round: Callable[[int], object] | None = None,
) -> dict[str, Timing]:
    """Time every rival ``repeats`` times, round by round.

    Each round starts with another rival, so that none of them always runs in the wake of the same one. Garbage is
    collected between calls and never during one. Whoever watches is told between calls how far it is
    (:mod:`verdiff.progress`).

    Args:
        rivals: Name -> what to time. A rival that raises ends the run.
        repeats: Timed rounds, at least 1.
        warmup: Rounds before them that are not timed.
        clock: Seconds, monotonic.
        between: Called before every call, outside the timing.
        on_round: Called with the number of each timed round after it, from 1.

    Raises:
        ValueError: No rival, or fewer than one round.
    """
    if not rivals or repeats < 1 or warmup < 0:
        raise ValueError(f"{len(rivals)} rivals, {repeats} repeats, {warmup} rounds of warm-up")
    names = list(rivals)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    calls = (warmup + repeats) * len(names)
    with stage("timing"):
        for number in range(-warmup, repeats):
            first = number % len(names)
            for place, name in enumerate(names[first:] + names[:first]):
                done(((number + warmup) * len(names) + place) / calls)
                between()
                with _no_collection():
                    start = clock()
                    rivals[name]()
                    taken = clock() - start
                if number >= 0:
                    seconds[name].append(taken)
            if on_round is not None and number >= 0:
                on_round(number + 1)
    return {name: Timing(tuple(durations)) for name, durations in seconds.items()}


def measure(
    function: Callable[[], object],
    *,
    repeats: int,
    warmup: int = 2,
    clock: Clock = time.perf_counter,
    between: Callable[[], object] = settle,
) -> Timing:
    """Time one function on its own; see :func:`interleave`."""
    return interleave({"it": function}, repeats=repeats, warmup=warmup, clock=clock, between=between)["it"]


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
