"""Where the time of a run goes, against what the machine can do: what a figure short of its aim comes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verdiff.benchmarks.cost import RunCost
from verdiff.benchmarks.record_page import duration
from verdiff.benchmarks.timing import Timing
from verdiff.markdown import markdown_table

# Stages that are mostly a network's.
NETWORK_STAGES = ("locate", "prior", "loop")


@dataclass(frozen=True)
class Profile:
    """One rival's medians.

    Attributes:
        name: The rival.
        total_s: Seconds of the whole.
        stages_s: Stage -> seconds.
        networks_s: Network -> seconds in which it was at work.
        work: What it asked of them.
        limit_gflops: What the machine reaches in a large matrix product on as many threads.
        dice: Mean Dice against a reference mask, or None.
    """

    name: str
    total_s: float
    stages_s: Mapping[str, float]
    networks_s: Mapping[str, float]
    work: RunCost
    limit_gflops: float
    dice: float | None = None

    @property
    def outside_s(self) -> float:
        """Seconds in which no network was at work."""
        return self.total_s - sum(self.networks_s.values())

    @property
    def least_s(self) -> float | None:
        """What the networks' arithmetic would take at the machine's limit; None where it was not counted."""
        return sum(self.work.gflop.values()) / self.limit_gflops if self.work.gflop else None

    def gflops(self, network: str) -> float | None:
        """GFLOP/s that a network reached; None where it did not run or was not counted."""
        seconds = self.networks_s.get(network, 0.0)
        return self.work.gflop[network] / seconds if network in self.work.gflop and seconds > 0 else None

    def said(self) -> str:
        """The same in a sentence."""
        beside = {name: s for name, s in self.stages_s.items() if name not in NETWORK_STAGES}
        largest = max(beside, key=lambda name: beside[name])
        networks = ", ".join(self._network(name) for name, seconds in self.networks_s.items() if seconds > 0)
        least = "" if self.least_s is None else f"; at the machine's limit they would take {duration(self.least_s)}"
        return (
            f"{self.name} takes {duration(self.total_s)}: {networks}{least}; {duration(self.outside_s)} beside them, "
            f"most of it '{largest}' ({duration(beside[largest])})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "gflops": {network: self.gflops(network) for network in self.networks_s},
            "limit_gflops": self.limit_gflops,
            "networks_at_the_limit_s": self.least_s,
            "outside_s": self.outside_s,
            "dice": self.dice,
        }

    def _network(self, network: str) -> str:
        reached = self.gflops(network)
        seconds = duration(self.networks_s[network])
        if reached is None:
            return f"{network} network {seconds}"
        work = self.work
        return f"{network} network {seconds} for {work.gflop[network]:.0f} GFLOP ({reached:.0f} GFLOP/s)"


def profile_of(
    name: str,
    whole: Timing,
    stages: Mapping[str, Timing],
    networks: Mapping[str, Timing],
    work: RunCost,
    limit_gflops: float,
    dice: float | None = None,
) -> Profile:
    """The profile of a rival from its timings."""
    medians = [{key: timing.median for key, timing in each.items()} for each in (stages, networks)]
    return Profile(name, whole.median, medians[0], medians[1], work, limit_gflops, dice)


def profile_table(profiles: Sequence[Profile]) -> str:
    """Markdown: time and Dice of each rival, the GFLOP/s its networks reach, and the time at the machine's limit."""
    titles = ("rival", "median", "Dice", "prior GFLOP/s", "denoiser GFLOP/s", "networks", "at the limit", "beside them")
    rows = []
    for each in profiles:
        reached = (each.gflops(network) for network in ("prior", "denoiser"))
        cells = [
            each.name,
            duration(each.total_s),
            "" if each.dice is None else f"{each.dice:.4f}",
            *("" if rate is None else f"{rate:.0f}" for rate in reached),
            duration(sum(each.networks_s.values())),
            "" if each.least_s is None else duration(each.least_s),
            duration(each.outside_s),
        ]
        rows.append(cells)
    lines = markdown_table(titles, rows)
    if profiles:
        limit = profiles[0].limit_gflops
        lines += ["", f"The machine's limit: {limit:.0f} GFLOP/s, a product of two 2048 x 2048 matrices in float32."]
    return "\n".join(lines)
