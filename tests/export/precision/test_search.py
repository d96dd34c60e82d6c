"""Islands beyond the required ones: the right nodes, none that the gate can do without, each for its own reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.export.precision.bench import FP16, Bench, half
from tests.export.precision.networks import node_of
from verdiff.errors import VerificationError
from verdiff.export.builder import make_model, tensor_info
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.half import HALF_MAX, HalfNetwork, to_half
from verdiff.export.precision.networks import NetworkPair
from verdiff.export.precision.search import MOST_ISLANDS, find_islands, islands_by_range

CHAIN = 10
NODES = tuple(f"layer {index}" for index in range(CHAIN))


def chain(weights: list[float] | None = None) -> onnx.ModelProto:
    """image -> prior through convolutions of one weight each, called ``layer 0`` and so on."""
    weights = weights or [0.5] * CHAIN
    values = ["image", *(f"v{index}" for index in range(1, len(weights))), "prior"]
    nodes = [
        helper.make_node("Conv", [values[i], f"w{i}"], [values[i + 1]], name=f"layer {i}") for i in range(len(weights))
    ]
    arrays = [numpy_helper.from_array(np.full((1, 1, 1, 1), w, np.float32), f"w{i}") for i, w in enumerate(weights)]
    ends = [[tensor_info(name, ["N", 1, "H", "W"])] for name in ("image", "prior")]
    return make_model(helper.make_graph(nodes, "prior", *ends, arrays))


class Oracle:
    """A gate that measures nothing: a rule over the names of the nodes in FP32 says whether a candidate passes."""

    def __init__(self, passed: Any, rule: Callable[[set[str]], bool]) -> None:
        self.passed, self.rule = passed, rule
        self.kept: set[str] = set()
        self.trials: list[set[str]] = []

    def convert(self, role: str, model: onnx.ModelProto, extra: Mapping[str, str]) -> HalfNetwork:
        self.kept = set(extra)
        return to_half(model, extra)

    def compare(self, executed: NetworkPair) -> Any:
        self.trials.append(self.kept)
        if not self.rule(self.kept):
            raise VerificationError(f"wrong with {', '.join(sorted(self.kept)) or 'none'}", "right", "none")
        return self.passed

    def search(self, extra: Mapping[str, str] | None = None, say: Callable[[str], None] = lambda _: None) -> dict:
        source = NetworkPair(chain(), None)
        found, report = find_islands(source, self.convert, self, FP16, {"prior": extra or {}}, say)  # type: ignore[arg-type]
        assert report is self.passed
        return found.extra["prior"]


@pytest.fixture(scope="module")
def passed() -> Any:
    """A report without a failure."""
    bench = Bench()
    return bench.gate.compare(bench.source)


@pytest.mark.parametrize("culprit", NODES)
def test_one_node_that_matters_is_found_exactly(passed: Any, culprit: str) -> None:
    assert Oracle(passed, lambda kept: culprit in kept).search() == {culprit: "without it, wrong with none"}


def test_each_of_several_has_the_figures_of_its_own_absence(passed: Any) -> None:
    needed = {"layer 2", "layer 3", "layer 9"}
    found = Oracle(passed, lambda kept: needed <= kept).search()
    assert found == {
        name: f"without it, wrong with {', '.join(sorted(needed - {name}))}" for name in sorted(needed, reverse=True)
    }


def test_an_island_that_the_later_ones_make_needless_is_dropped(passed: Any) -> None:
    """The shortest run that passes ends with layer 7, but layer 4 is enough where it is alone."""
    oracle = Oracle(passed, lambda kept: "layer 4" in kept and (len(kept) == 1 or "layer 7" in kept))
    said: list[str] = []
    assert oracle.search(say=said.append) == {"layer 4": "without it, wrong with none"}
    assert {"layer 4", "layer 7"} in oracle.trials
    assert "  without layer 7 of the prior: passes" in said


def test_figures_measured_beside_an_island_that_was_dropped_are_measured_again(passed: Any) -> None:
    """Found are layers 9, 5 and 1; without 9 the others fail together, then 5 goes, and 9 is tried with 1 alone."""
    pair = {"layer 1", "layer 9"}
    oracle = Oracle(passed, lambda kept: kept == pair or pair | {"layer 5"} <= kept)
    assert oracle.search() == {"layer 9": "without it, wrong with layer 1", "layer 1": "without it, wrong with layer 9"}
    assert {"layer 1", "layer 5"} in oracle.trials


def test_islands_given_beforehand_stay(passed: Any) -> None:
    given = {"layer 0": "an activation of 2e+04"}
    found = Oracle(passed, lambda kept: "layer 6" in kept).search(given)
    assert found == {**given, "layer 6": "without it, wrong with layer 0"}


def test_a_candidate_that_passes_at_once_gets_no_island_and_no_other_trial(passed: Any) -> None:
    oracle = Oracle(passed, lambda kept: True)
    assert oracle.search() == {} and oracle.trials == [set()]


def test_where_fp32_throughout_does_not_pass_nothing_else_is_tried(passed: Any) -> None:
    oracle = Oracle(passed, lambda kept: False)
    with pytest.raises(VerificationError, match="even with all 10 nodes kept in FP32: wrong with layer 0, layer 1"):
        oracle.search()
    assert oracle.trials == [set(), set(NODES)]


def test_the_search_ends_with_the_most_islands_there_may_be(passed: Any) -> None:
    few = Oracle(passed, lambda kept: set(NODES[:MOST_ISLANDS]) <= kept)
    assert set(few.search()) == set(NODES[:MOST_ISLANDS])
    many = Oracle(passed, lambda kept: set(NODES[: MOST_ISLANDS + 1]) <= kept)
    with pytest.raises(VerificationError, match=f"still changes with {MOST_ISLANDS} nodes"):
        many.search()


def test_every_trial_is_said_and_made_once(passed: Any) -> None:
    said: list[str] = []
    oracle = Oracle(passed, lambda kept: {"layer 2", "layer 7"} <= kept)
    oracle.search(say=said.append)
    assert len({frozenset(kept) for kept in oracle.trials}) == len(oracle.trials)
    assert len([line for line in said if line.startswith("  ")]) == len(oracle.trials) - 1
    assert said[0] == "the gate is not passed: wrong with none"


def test_digits_lost_between_two_nodes_make_islands_of_these_two_alone() -> None:
    lossy = Bench(offset=2000.0)
    candidate, report = find_islands(lossy.source, half, lossy.gate, FP16, {}, lambda line: None)
    assert report.failures(FP16) == []
    assert set(candidate.extra["prior"]) == {node_of(lossy.source.prior, name) for name in ("lifted", "lowered")}
    assert candidate.extra["denoiser"] == {}


def test_an_activation_above_a_quarter_of_the_range_is_an_island_and_one_below_is_none() -> None:
    seen = Ranges(chain([0.9, 1.0 / 0.9, 1.1, 1.0]))
    seen.look({"image": np.full((1, 1, 2, 2), HALF_MAX / 4, np.float32) * np.float32(0.99)})
    assert islands_by_range({"prior": seen}) == {
        "prior": {name: "an activation of 1.783e+04" for name in ("layer 2", "layer 3")}
    }
