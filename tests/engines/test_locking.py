"""Two builds of one engine at once: one builds, the other waits and finds the engine."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tests.engines.make import HERE, PLAN, make_key, put
from verdiff.engines import engine_lock, engine_path, find_engines, prepare_folder, read_engine

PATIENCE_S = 60
SPAWN = multiprocessing.get_context("spawn")


def build(folder: Path, building: Event, somebody_waits: Event, answers: Any) -> None:
    """What `verdiff build` does, with a build that takes until somebody waits for it."""
    with engine_lock(make_key(), folder, somebody_waits.set):
        if find_engines(folder):
            answers.put("found")
            return
        building.set()
        somebody_waits.wait(PATIENCE_S)
        put(folder)
        answers.put("built")


def test_of_two_processes_one_builds_and_the_other_waits_and_finds_it(tmp_path: Path) -> None:
    folder = prepare_folder(tmp_path / "engines")
    building, waits, answers = SPAWN.Event(), SPAWN.Event(), SPAWN.Queue()
    both = [SPAWN.Process(target=build, args=(folder, building, waits, answers)) for _ in range(2)]
    both[0].start()
    assert building.wait(PATIENCE_S)
    both[1].start()
    found = [answers.get(timeout=PATIENCE_S) for _ in both]
    for process in both:
        process.join(PATIENCE_S)
    # A queue's own thread sends what was put, so the second answer may come first.
    assert sorted(found) == ["built", "found"]
    assert waits.is_set()
    assert read_engine(engine_path(make_key(), folder), HERE) == PLAN


def hold(folder: Path, building: Event, forever: Event) -> None:
    with engine_lock(make_key(), folder):
        building.set()
        forever.wait(PATIENCE_S)


def test_a_builder_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    folder = prepare_folder(tmp_path / "engines")
    building, forever = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(folder, building, forever))
    process.start()
    assert building.wait(PATIENCE_S)
    process.kill()
    process.join(PATIENCE_S)
    waited: list[bool] = []
    with engine_lock(make_key(), folder, lambda: waited.append(True)):
        assert not waited


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    folder = prepare_folder(tmp_path / "engines")
    waits, inside = threading.Event(), []

    def second() -> None:
        with engine_lock(make_key(), folder, waits.set):
            inside.append("second")

    with engine_lock(make_key(), folder):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(PATIENCE_S)
        inside.append("first")
    thread.join(PATIENCE_S)
    assert inside == ["first", "second"]


def test_builds_of_different_engines_do_not_wait_for_each_other(tmp_path: Path) -> None:
    folder = prepare_folder(tmp_path / "engines")
    waited: list[bool] = []
    with engine_lock(make_key(), folder), engine_lock(make_key(sm="89"), folder, lambda: waited.append(True)):
        assert not waited
