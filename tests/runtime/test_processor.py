"""What a processor's instructions are called, from what the system says of them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from verdiff.runtime.processor import instruction_flags, instruction_set

ZEN3 = "fpu sse2 avx avx2 fma sha_ni"
ICE_LAKE = "fpu avx avx2 avx512f avx512bw avx512_vnni"
SAPPHIRE_RAPIDS = f"{ICE_LAKE} avx_vnni avx512_bf16 amx_bf16 amx_tile amx_int8"


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (ZEN3, "avx2"),
        (f"{ZEN3} avx_vnni", "avx_vnni"),
        (f"{ZEN3} avx512f avx512bw", "avx512"),
        (ICE_LAKE, "avx512_vnni"),
        (f"{ICE_LAKE} avx512_bf16", "avx512_bf16"),
        (SAPPHIRE_RAPIDS, "amx"),
    ],
)
def test_the_best_instructions_name_the_kind(tmp_path: Path, flags: str, kind: str) -> None:
    (tmp_path / "cpuinfo").write_text(
        f"processor : 0\nmodel name : avx512_vnni\nflags\t\t: {flags}\nbugs : none\n", "utf-8"
    )
    assert instruction_set(tmp_path / "cpuinfo") == kind


def test_arm_lists_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nFeatures\t: fp asimd asimddp\n", "utf-8")
    assert instruction_flags(tmp_path / "cpuinfo") == {"fp", "asimd", "asimddp"}
    assert instruction_set(tmp_path / "cpuinfo") == "dotprod"


def test_a_system_that_lists_nothing_is_called_by_its_machine(tmp_path: Path) -> None:
    assert instruction_flags(tmp_path / "none") == frozenset()
    assert instruction_set(tmp_path / "none") == platform.machine()
