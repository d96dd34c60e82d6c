"""One harness for every timing: rivals side by side in one run, percentiles, stages, peak memory, a record to repeat.

The command line's entry is :func:`verdiff.benchmarks.running.run`.
"""

from __future__ import annotations

from verdiff.benchmarks.environment import Environment, describe_machine
from verdiff.benchmarks.harness import interleave, measure
from verdiff.benchmarks.timing import Ratio, Timing, speedup

__all__ = ["Environment", "Ratio", "Timing", "describe_machine", "interleave", "measure", "speedup"]
