"""The stubs that mypy checks TensorRT's use with: repaired where they are known to be broken, refused where not."""

from __future__ import annotations

import ast

import pytest

from tests.tensorrt_stubs import repair

BROKEN = """
class Plugin:
    def add_scale_nd(self, shift: Weights = None, power: Weights = None, channel_axis: int) -> Layer:
        ...
    def get_workspace_size(self, in: list[Desc], out: list[Desc]) -> int:
        ...
    def on_shape_change(self: Plugin, in: list[Desc], out: list[Desc]) -> None:
        ...
"""


def test_the_known_faults_are_repaired_and_nothing_else_is_touched() -> None:
    with pytest.raises(SyntaxError):
        ast.parse(BROKEN)
    repaired = repair(BROKEN)
    (plugin,) = ast.parse(repaired).body
    names = [[argument.arg for argument in method.args.args] for method in plugin.body]  # type: ignore[attr-defined]
    assert names == [["self", "shift", "power", "channel_axis"], ["self", "input", "out"], ["self", "input", "out"]]
    assert repair(repaired) == repaired


def test_another_fault_is_not_passed_over() -> None:
    with pytest.raises(SyntaxError):
        repair(BROKEN + "    def broken(self, class: int): ...\n")
