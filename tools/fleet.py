"""What a fleet needs for so many scans a day, and a simulation of one: ``python -m tools.fleet``, for docs/scale.md.

``python -m tools.fleet`` prints the tables of the page. ``python -m tools.fleet measure SCAN RECORD.json`` runs copies
of a scan on a Ray cluster of this machine and records when each ended, which the simulation is compared with.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from typing import Any

from tools.import_graph import ROOT
from verdiff.batch.dispatch import AHEAD

RECORDS = ROOT / "docs" / "results" / "spine-mr-0.3.0"
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- made by python -m tools.fleet -->\n", "<!-- until here -->\n"
DAY_SECONDS = 86_400
# Share of a day in which a device computes: scans come unevenly, machines are repaired.
IN_USE = 0.7
MACHINE_CORES, WORKER_CORES = 64, 2
# The scan of the record, 512 x 640 x 18 in 16 bits: as it is, and packed; a mask, and a report.
RAW_MB, PACKED_MB, WRITTEN_MB, FILES = 11.8, 7.0, 0.12, 2
# Of a worker, beside the model: three scans in hand.
WORKER_GB = 0.77
# What a GPU is taken to sustain on networks of this kind, which nobody has measured.
GPU_GFLOPS = 10_000.0


@dataclass(frozen=True)
class Cost:
    """What one volume takes.

    Attributes:
        name: Setting and processor.
        seconds: Wall-clock seconds from file to file, on two cores.
        gflop: Arithmetic of the networks.
    """

    name: str
    seconds: float
    gflop: float

    @property
    def core_seconds(self) -> float:
        """Seconds of one core."""
        return 2 * self.seconds


@dataclass(frozen=True)
class Stages:
    """What one scan takes in a worker: seconds of reading, running and writing."""

    read: float
    run: float
    write: float


@dataclass(frozen=True)
class Simulated:
    """How a batch went: seconds to the last scan, and the share of them in which the models computed."""

    seconds: float
    busy: float


def costs() -> list[Cost]:
    """The settings that the table has, from the records of ``verdiff bench volume``."""
    plain, vnni = RECORDS / "volume.json", RECORDS / "avx512-bf16" / "volume.json"
    return [
        _cost("default, ONNX Runtime FP32, AVX2", plain, "ONNX Runtime fp32"),
        _cost("fast, ONNX Runtime FP32, AVX2", plain, "ONNX Runtime fp32, fast"),
        _cost("fast, OpenVINO INT8, AVX-512 with VNNI", vnni, "OpenVINO int8, fast"),
    ]


def _cost(name: str, record: Path, rival: str) -> Cost:
    held = json.loads(record.read_text("utf-8"))
    return Cost(name, held["timings"][rival]["median_s"], sum(held["work"][rival]["gflop"].values()))


def simulate(
    scans: Sequence[Stages],
    workers: int,
    *,
    ahead: int = AHEAD,
    driver: float = 0.0,
    megabytes: float = 0.0,
    disk_mb_s: float | None = None,
) -> Simulated:
    """A batch on workers that each read, run and write one scan at a time, and have so many in hand.

    Args:
        scans: What each takes, in the order they are handed out.
        workers: How many there are, all ready at the beginning.
        ahead: How many scans a worker has at most.
        driver: Seconds of the one process that hands scans out, for each.
        megabytes: Size of a scan's file.
        disk_mb_s: What all disks together deliver; None is as much as is asked for.
    """
    free = [[0.0, 0.0, 0.0] for _ in range(workers)]
    disk = handed = last = computed = 0.0
    ended: list[tuple[float, int, int]] = []
    waiting = list(reversed(scans))
    number = 0

    def hand(worker: int, now: float) -> None:
        nonlocal disk, number, computed
        scan, (reads, runs, writes) = waiting.pop(), free[worker]
        begun = max(now, reads)
        if disk_mb_s is not None:
            disk = begun = max(begun, disk) + megabytes / disk_mb_s
        read = begun + scan.read
        run = max(read, runs) + scan.run
        written = max(run, writes) + scan.write
        free[worker] = [read, run, written]
        computed += scan.run
        number += 1
        heapq.heappush(ended, (written, number, worker))

    # Each has one before any has two.
    for _ in range(ahead):
        for worker in range(workers):
            if waiting:
                handed += driver
                hand(worker, handed)
    while ended:
        now, _, worker = heapq.heappop(ended)
        handed, last = max(handed, now) + driver, max(last, now)
        if waiting:
            hand(worker, handed)
    return Simulated(last, computed / (workers * last) if last else 0.0)


def needs(scans_a_day: int, cost: Cost) -> list[str]:
    """The row of a table: cores, machines, GPUs, memory, network and disk for so many scans a day."""
    rate = scans_a_day / DAY_SECONDS
    workers = math.ceil(rate * cost.core_seconds / IN_USE / WORKER_CORES)
    return [
        f"{scans_a_day:,}",
        cost.name,
        f"{workers * WORKER_CORES:,}",
        f"{math.ceil(workers * WORKER_CORES / MACHINE_CORES):,}",
        f"{math.ceil(rate * cost.gflop / GPU_GFLOPS / IN_USE):,}",
        f"{workers * WORKER_GB:,.0f} GB",
    ]


def stores(scans_a_day: int) -> list[str]:
    """The row of a table: what is read and written, by the second and by the day."""
    rate = scans_a_day / DAY_SECONDS
    return [
        f"{scans_a_day:,}",
        f"{rate:.2f}",
        f"{rate * PACKED_MB:.1f} MB/s",
        f"{rate * RAW_MB:.1f} MB/s",
        f"{scans_a_day * WRITTEN_MB / 1000:,.1f} GB",
        f"{rate * FILES:.2f}",
    ]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def bottleneck(cost: Cost, disk_mb_s: float, workers: Sequence[int]) -> list[list[str]]:
    """Rows of a table: how much of their time workers compute when they share disks of so many MB/s."""
    rows = []
    for count in workers:
        scans = [Stages(0.2, cost.seconds - 0.3, 0.1)] * (40 * count)
        done = simulate(scans, count, megabytes=RAW_MB, disk_mb_s=disk_mb_s)
        rows.append([f"{count:,}", f"{len(scans) / done.seconds:.1f}", f"{done.busy:.0%}"])
    return rows


def compared(record: dict[str, Any]) -> tuple[float, float]:
    """Seconds that a recorded run took, and that the simulation says, from the first scan's beginning on."""
    scans = [Stages(each["read"], each["run"], each["write"]) for each in record["scans"]]
    first = min(record["scans"], key=lambda each: each["ended"])
    begun = first["ended"] - first["read"] - first["run"] - first["write"]
    took = max(each["ended"] for each in record["scans"]) - begun
    return took, simulate(scans, record["workers"]).seconds


def measure(scan: Path, record: Path, *, copies: int = 12) -> None:
    """Run copies of a scan on a Ray cluster of this machine, a thread a worker, and record when each ended."""
    from verdiff.batch import Asked, Row, WorkerPlan, cases_of, plan_batch, run_on_ray
    from verdiff.bundle import open_bundle, resolve_model
    from verdiff.options import InferOptions

    with TemporaryDirectory() as place:
        scans = Path(place) / "scans"
        scans.mkdir()
        for number in range(copies):
            shutil.copy(scan, scans / f"{number:03d}{''.join(scan.suffixes)}")
        options = InferOptions(threads=1)
        sha256 = open_bundle(resolve_model()).manifest_sha256
        batch = plan_batch(cases_of([scans]), Path(place) / "out", Asked(options), model_sha256=sha256)
        ended: dict[str, float] = {}

        def note(row: Row) -> None:
            ended[row.case] = monotonic()
            print(row.line(), flush=True)

        rows = run_on_ray(batch, WorkerPlan(options, sha256), "local", on_case=note)
    zero = min(ended.values())
    held = {
        "command": f"python -m tools.fleet measure {scan.name} {record.name}",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "cpu": _cpu()},
        "workers": os.cpu_count(),
        "hand_out_ms_a_scan": handing_out(),
        "scans": [
            {**asdict(_stages(row.report["timings_s"])), "case": row.case, "ended": ended[row.case] - zero}
            for row in rows
            if row.report is not None
        ],
    }
    record.write_text(json.dumps(held, indent=1) + "\n", "utf-8")
    took, simulated = compared(held)
    print(f"measured {took:.1f} s, simulated {simulated:.1f} s")


def handing_out(count: int = 2000) -> dict[str, float]:
    """Milliseconds of a core for each scan that the command itself takes: planning it, and its row of the summary."""
    from verdiff.batch import Asked, Row, cases_of, plan_batch
    from verdiff.batch.rows import table

    with TemporaryDirectory() as place:
        scans = Path(place) / "scans"
        scans.mkdir()
        for number in range(count):
            (scans / f"{number:06d}.nii.gz").write_bytes(b"0")
        begun = process_time()
        plan_batch(cases_of([scans]), Path(place) / "out", Asked(), model_sha256="0" * 64)
        planned = process_time()
        volumes = {"vertebra": 100.0, "disc": 30.0, "canal": 20.0}
        table(Row(f"{n:06d}", "scans/x.nii.gz", "done", 0, mask="x", volumes_ml=volumes).cells() for n in range(count))
        return {
            "planning": 1000 * (planned - begun) / count,
            "summary": 1000 * (process_time() - planned) / count,
        }


def _stages(timings: dict[str, float]) -> Stages:
    return Stages(timings["read"], timings["total"], timings.get("write", 0.0))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def page() -> str:
    """The tables of docs/scale.md."""
    a_day = (10_000, 10_000_000)
    fast = costs()[1]
    lines = ["**To compute**", ""]
    lines += _table(
        [
            "scans a day",
            "setting and processor",
            "cores",
            f"machines of {MACHINE_CORES}",
            "or GPUs (estimate)",
            "memory",
        ],
        [needs(count, cost) for count in a_day for cost in costs()],
    )
    lines += ["", "**To read and write**", ""]
    lines += _table(
        ["scans a day", "a second", "read, packed", "read, as it is", "written a day", "files a second"],
        [stores(count) for count in a_day],
    )
    lines += ["", "**Workers that share disks of 1 GB/s** (simulated, fast setting, files as they are)", ""]
    lines += _table(["workers", "scans a second", "computing"], bottleneck(fast, 1000.0, (50, 100, 200, 400)))
    return "\n".join(lines) + "\n"


def main(words: Sequence[str]) -> None:
    """Print the tables, or measure."""
    if len(words) == 3 and words[0] == "measure":
        measure(Path(words[1]), Path(words[2]))
    elif not words:
        print(page(), end="")
    else:
        raise SystemExit("python -m tools.fleet [measure SCAN RECORD.json]")


if __name__ == "__main__":
    main(sys.argv[1:])
