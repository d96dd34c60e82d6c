"""The harness under a clock that only the rivals move."""

from __future__ import annotations

import gc

import pytest

from verdiff.benchmarks.harness import interleave, measure
from verdiff.progress import watched_by


class FakeClock:
    """A clock that stands still until something takes its time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float, log: list[str] | None = None, name: str = ""):
        durations = iter(seconds)

        def call() -> None:
            self.now += next(durations)
            if log is not None:
                log.append(name)

        return call


def nothing() -> None:
    """Between two calls."""


def test_each_rival_gets_its_own_durations_without_the_warm_up():
    clock = FakeClock()
    rivals = {"slow": clock.taking(9.0, 3.0, 4.0), "fast": clock.taking(9.0, 1.0, 2.0)}
    timings = interleave(rivals, repeats=2, warmup=1, clock=clock, between=nothing)
    assert timings["slow"].seconds == (3.0, 4.0)
    assert timings["fast"].seconds == (1.0, 2.0)


def test_every_round_runs_each_rival_once_and_starts_with_another():
    clock, log = FakeClock(), []
    rivals = {name: clock.taking(*[1.0] * 3, log=log, name=name) for name in "abc"}
    interleave(rivals, repeats=3, warmup=0, clock=clock, between=nothing)
    assert ["".join(log[start : start + 3]) for start in (0, 3, 6)] == ["abc", "bca", "cab"]


def test_a_drifting_load_hits_all_rivals_alike():
    clock = FakeClock()
    drift = [1.0, 2.0, 3.0, 4.0, 5.0]
    rivals = {"a": clock.taking(*drift), "b": clock.taking(*drift)}
    timings = interleave(rivals, repeats=5, warmup=0, clock=clock, between=nothing)
    assert timings["a"].median == timings["b"].median


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def within(self, share: float) -> None:
        self.shares.append(share)

    def doing(self, what: str) -> None:
        """The names of the parts are not looked at."""

    def stage(self) -> None:
        """Nor are they counted."""


def test_whoever_watches_hears_before_each_call_how_much_is_done():
    watcher, clock = Watcher(), FakeClock()
    rivals = {name: clock.taking(*[1.0] * 4) for name in "ab"}
    with watched_by(watcher):
        interleave(rivals, repeats=3, warmup=1, clock=clock, between=nothing)
    assert watcher.shares == [number / 8 for number in range(8)]


def test_what_happens_between_calls_is_not_timed():
    clock = FakeClock()
    timing = measure(
        clock.taking(1.0, 1.0), repeats=2, warmup=0, clock=clock, between=lambda: setattr(clock, "now", clock.now + 50)
    )
    assert timing.seconds == (1.0, 1.0)


def test_rounds_are_counted_for_a_progress_bar_without_the_warm_up():
    rounds: list[int] = []
    interleave({"a": nothing}, repeats=3, warmup=2, clock=FakeClock(), between=nothing, on_round=rounds.append)
    assert rounds == [1, 2, 3]


def test_garbage_is_not_collected_during_a_call_and_is_again_after_it():
    seen: list[bool] = []
    measure(lambda: seen.append(gc.isenabled()), repeats=1, warmup=0, clock=FakeClock(), between=nothing)
    assert seen == [False]
    assert gc.isenabled()


def test_a_rival_that_fails_ends_the_run_and_leaves_the_collector_on():
    def fail() -> None:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        interleave({"a": nothing, "b": fail}, repeats=1, warmup=0, clock=FakeClock(), between=nothing)
    assert gc.isenabled()


@pytest.mark.parametrize(("rivals", "repeats", "warmup"), [({}, 1, 0), ({"a": nothing}, 0, 0), ({"a": nothing}, 1, -1)])
def test_a_run_without_rivals_or_rounds_is_refused(rivals, repeats, warmup):
    with pytest.raises(ValueError, match="rivals"):
        interleave(rivals, repeats=repeats, warmup=warmup, clock=FakeClock(), between=nothing)
