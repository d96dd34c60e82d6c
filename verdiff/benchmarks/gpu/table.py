"""The one table of the case ``gpu``: a row a rival, also for those that could not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verdiff.benchmarks.gpu.trace import Trace
from verdiff.benchmarks.timing import Timing
from verdiff.markdown import markdown_table

TITLES = (
    "rival",
    *("step p50", "p90", "p99"),
    *("volume p50", "p90", "p99"),
    *("GPU busy", "idle a step", "device memory", "Dice to FP32"),
)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class RivalFigures:
    """What was found of one rival.

    Attributes:
        step: One step of one batch, as the loop's time over its steps.
        volume: The whole workload, scan to mask.
        trace: Trace of one loop; None where nothing listened.
        memory_bytes: Device memory it holds; None where the driver does not tell.
        dice: Mean Dice of its mask to the FP32 reference; None where it cannot be compared.
    """

    step: Timing
    volume: Timing
    trace: Trace | None
    memory_bytes: int | None
    dice: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, durations apart."""
        return {
            "busy_share": None if self.trace is None else self.trace.busy_share,
            "idle_a_step_s": None if self.trace is None else self.trace.idle_a_step_s,
            "calls_in_a_loop": None if self.trace is None else dict(self.trace.calls),
            "device_memory_bytes": self.memory_bytes,
            "dice_to_fp32": self.dice,
        }


def rivals_table(order: Sequence[str], rows: Mapping[str, RivalFigures], reasons: Mapping[str, str]) -> str:
    """Every rival in ``order``: its figures, or why it has none."""
    found = []
    for name in order:
        if name in rows:
            found.append([name, *_cells(rows[name])])
        else:
            found.append([name, f"not run: {'; '.join(reasons[name].splitlines())}"])
    return "\n".join(markdown_table(TITLES, found))


def _cells(row: RivalFigures) -> list[str]:
    cells = [_milliseconds(timing.percentile(p)) for timing in (row.step, row.volume) for p in (50, 90, 99)]
    trace = row.trace
    cells.append(UNKNOWN if trace is None else f"{100 * trace.busy_share:.0f} %")
    cells.append(UNKNOWN if trace is None else f"{trace.idle_a_step_s * 1e6:.1f} µs")
    cells.append(UNKNOWN if row.memory_bytes is None else f"{row.memory_bytes / 2**20:.0f} MiB")
    cells.append("not comparable" if row.dice is None else f"{row.dice:.4f}")
    return cells


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
