"""Who does which scan, whatever becomes of the workers: nothing lost, nothing twice, no innocent condemned."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some

from verdiff.batch.asked import Asked
from verdiff.batch.cases import BatchCase
from verdiff.batch.dispatch import AHEAD, TRIES, Assigned, Dispatch
from verdiff.batch.on_ray import _expected, _Post
from verdiff.batch.planning import BatchTask
from verdiff.batch.ray_cluster import ClusterDevice
from verdiff.runtime.writing import OutputFiles


def tasks(count: int) -> list[BatchTask]:
    named = [(Path(f"{n}.nii.gz"), f"{n}") for n in range(count)]
    return [
        BatchTask(
            BatchCase(scan), name, Asked(), None, OutputFiles(Path(f"{name}_seg.nii.gz"), Path(f"{name}_seg.json"))
        )
        for scan, name in named
    ]


def hand_out(dispatch: Dispatch, device: str, others: tuple[str, ...] = ()) -> list[Assigned]:
    given = []
    while (each := dispatch.next(device, 0.0, others)) is not None:
        given.append(each)
    return given


def test_a_worker_gets_no_more_than_it_can_begin_on() -> None:
    dispatch = Dispatch(tasks(10))
    assert len(hand_out(dispatch, "slow")) == AHEAD
    first, second = hand_out(dispatch, "quick")
    for done in (first, second):
        dispatch.ended("quick", done, 0.0)
    assert len(hand_out(dispatch, "quick")) == AHEAD and dispatch.waiting == 10 - 3 * AHEAD


def test_every_worker_has_one_scan_before_any_has_two() -> None:
    dispatch = Dispatch(tasks(2))
    assert len(hand_out(dispatch, "first", ("first", "second"))) == 1
    assert len(hand_out(dispatch, "second", ("first", "second"))) == 1


def test_what_was_in_a_lost_worker_is_tried_alone_and_elsewhere_first() -> None:
    dispatch = Dispatch(tasks(2))
    names = [each.task.name for each in hand_out(dispatch, "a")]
    assert dispatch.lost("a") == [] and dispatch.waiting == 2
    assert hand_out(dispatch, "a", ("a", "b")) == []
    (alone,) = hand_out(dispatch, "b", ("a", "b"))
    assert alone.task.name == names[0]
    # Where there is no other device, the same one has to do.
    (other,) = hand_out(dispatch, "a", ("a",))
    assert other.task.name == names[1]


def test_a_device_whose_worker_never_comes_up_is_not_waited_for() -> None:
    up, coming = (_Post(ClusterDevice(name, "", 1, {}), None, None, begun=0.0) for name in "ab")
    up.ready = True
    dispatch = Dispatch(tasks(1))
    assert len(hand_out(dispatch, "a", ("a", "b"))) == 1
    dispatch.lost("a")
    assert hand_out(dispatch, "a", tuple(_expected([up, coming], now=10.0))) == []
    assert len(hand_out(dispatch, "a", tuple(_expected([up, coming], now=1000.0)))) == 1


def test_the_scan_that_kills_is_given_up_and_its_neighbour_is_not() -> None:
    dispatch, done, losses, over = Dispatch(tasks(6)), [], 0, []
    while dispatch.open:
        mine = hand_out(dispatch, "only", ("only",))
        if any(each.task.name == "1" for each in mine):
            losses += 1
            over += [each.task.name for each in dispatch.lost("only")]
            continue
        for each in mine:
            done.append(each.task.name)
            dispatch.ended("only", each, 0.0)
    assert over == ["1"] and losses == TRIES and sorted(done) == ["0", "2", "3", "4", "5"]


def test_a_worker_is_overdue_by_its_first_scan_and_not_by_the_one_that_waits() -> None:
    dispatch = Dispatch(tasks(2))
    first, second = dispatch.next("a", 0.0), dispatch.next("a", 0.0)
    assert first is not None and second is not None
    assert dispatch.overdue(11.0, 10.0) == ["a"]
    dispatch.ended("a", first, 9.0)
    assert dispatch.overdue(11.0, 10.0) == [] and dispatch.overdue(20.0, 10.0) == ["a"]


@given(some.integers(0, 12), some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=200))
@settings(max_examples=200, deadline=None)
def test_every_scan_ends_once_whatever_becomes_of_the_workers(count: int, events: list[tuple[str, bool]]) -> None:
    dispatch, ended = Dispatch(tasks(count)), []
    at: dict[str, list[Assigned]] = {name: [] for name in "abc"}
    for device, lives in [*events, *[(name, True) for name in "abc" * (count + 1)]]:
        at[device] += hand_out(dispatch, device, tuple("abc"))
        assert len(at[device]) <= AHEAD
        assert len(at[device]) == 1 or not any(each.lost for each in at[device])
        if lives and at[device]:
            each = at[device].pop(0)
            dispatch.ended(device, each, 0.0)
            ended.append(each.task.name)
        elif not lives:
            ended += [each.task.name for each in dispatch.lost(device)]
            at[device] = []
    assert sorted(ended, key=int) == [str(n) for n in range(count)] and not dispatch.open
