"""How much memory one call will take, decided before any of it is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.bundle.objects import stated
from verdiff.errors import BudgetError
from verdiff.runtime.answer import Answer
from verdiff.runtime.half import HalfStack

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.imaging.volume_plan import VolumePlan
    from verdiff.runtime.sampling import Sampling

# Float32 maps of the model's full resolution that a network holds at once while it runs one image, per channel of its
# widest full-resolution layer: skips, the layer's input and output, and what the library keeps for the next call. As
# measured with the shipped model, a little above; of a backend that is not named, the most.
MAPS_PER_CHANNEL = {"onnxruntime": 15, "openvino": 24}
LEAST_CHANNELS = 16
KEEP_BYTES = 256 << 20
# What one slice or window may take of the networks' memory to have a lane: 512 x 512 model pixels with the shipped
# model.
LANE_BYTES = 256 << 20
# What a library takes, of what a graph's tensors need at once in theory (the manifest's ``window_mb``): a little more
# than measured with any 3D system (1.0 to 3.1 and 0.9 to 1.5).
WINDOW_FACTOR = {"onnxruntime": 3.2, "openvino": 1.6}


@dataclass(frozen=True)
class MemoryPlan:
    """What one call takes and keeps.

    Attributes:
        chunk: Slices worked on at once.
        keep_features: Whether the features of all slices stay between the prior pass and the rounds of samples;
            otherwise a round computes them again.
        keep_samples: Whether every sample stays, so that rounds add to each other; otherwise there is one round, or
            under the policy ``agree`` a chunk has all its rounds before the next.
        bytes: The most this call holds at once, beside the scan itself.
    """

    chunk: int
    keep_features: bool
    keep_samples: bool
    bytes: int


def plan_memory(
    plan: SlicePlan,
    manifest: Manifest,
    sampling: Sampling,
    *,
    backend: str,
    batch: int,
    chunk: int,
    anytime: bool,
    limit: int | None,
) -> MemoryPlan:
    """Choose chunk and caches for one call so that it stays under ``limit`` bytes (None: no limit is known).

    Args:
        plan: The slices and their grids.
        manifest: The model's.
        sampling: What is asked for.
        backend: Name of the backend that runs the networks.
        batch: Images that the networks are given at once.
        chunk: Slices to work on at once, if they fit.
        anytime: Whether there are rounds that caches would serve.
        limit: Bytes.

    Raises:
        BudgetError: One slice at a time, nothing kept, is still more than ``limit``.
    """
    classes = len(manifest.labels)
    pixels = plan.padded_rows * plan.padded_cols
    scan_pixels = plan.scan_rows * plan.scan_cols
    rows = 1 if sampling.table is None or not sampling.keeps_steps else len(sampling.table)
    sample_maps = 4 * pixels * classes * rows * max(1, sampling.samples)
    features = 4 * math.ceil(sum(pixels * f.channels / f.stride**2 for f in manifest.features) + pixels * classes)

    answer = Answer.empty(plan.slices, classes, plan.padded_rows, plan.padded_cols, samples=sampling.samples)
    # Beside the answer the labels, and in a stream's next result the ones before.
    standing = answer.kept_bytes + plan.slices * scan_pixels * (2 if anytime else 1)
    network = network_bytes(plan, manifest, backend) * batch
    # Beside a slice's samples: x, its update, noise in float64, and the probabilities in the scan's pixels.
    per_slice = features + 2 * sample_maps + 24 * pixels * classes * max(1, sampling.samples)
    per_slice += 4 * scan_pixels * (2 * classes + 6)

    keep_features = anytime and features * plan.slices <= KEEP_BYTES
    keep_samples = anytime and sample_maps * plan.slices <= KEEP_BYTES
    kept = plan.slices * (features * keep_features + sample_maps * keep_samples)
    chunk = min(chunk, plan.slices)
    least = standing + network + per_slice
    if limit is not None:
        if least > limit:
            raise BudgetError(
                f"{limit / 2**20:.0f} MiB of memory for a scan of {plan.slices} slices of {plan.scan_rows} x "
                f"{plan.scan_cols} pixels",
                f"about {math.ceil(least / 2**20)} MiB, the least for one slice at a time",
                "free memory, raise memory_mb, ask for fewer samples, or crop the scan",
            )
        if least + kept > limit:
            keep_features = keep_samples = False
            kept = 0
        chunk = max(1, min(chunk, (limit - standing - network - kept) // per_slice))
    return MemoryPlan(chunk, keep_features, keep_samples, standing + network + kept + chunk * per_slice)


@dataclass(frozen=True)
class VolumeMemory:
    """What one call on a model that takes volumes takes.

    Attributes:
        lanes: Windows in the network at once, each on its share of the threads.
        batch: Windows handed to the network at once.
        bytes: The most this call holds at once, beside the scan itself.
    """

    lanes: int
    batch: int
    bytes: int


def plan_volume_memory(
    plan: VolumePlan, manifest: Manifest, *, backend: str, batch: int, lanes: int, limit: int | None
) -> VolumeMemory:
    """Plan as many windows at once as lanes, if one is small enough and all fit under ``limit`` bytes; else one batch.

    Args:
        plan: The volume.
        manifest: The model's.
        backend: Name of the backend that runs the network.
        batch: Windows in one network call.
        lanes: The most calls at once.
        limit: Bytes; None: no limit is known.

    Raises:
        BudgetError: One call at a time is still more than ``limit``.
    """
    classes, planes = len(manifest.labels), plan.planes
    patch = stated(manifest.volume, "volume").patch
    slices, rows, cols = plan.inside
    scan_pixels = planes.scan_rows * planes.scan_cols
    standing = HalfStack(slices, (classes, rows, cols)).kept_bytes + planes.slices * scan_pixels
    # A slab of the image, of the maps that are being added up, and of those that are handed on.
    standing += 4 * patch[0] * math.prod(plan.shape[1:]) * (1 + 2 * classes)
    # A window with its maps, as they are and weighted; and later, in its place, a slice on its way back to the scan.
    window = 4 * math.prod(patch) * (2 + 2 * classes)
    one = batch * (window_bytes(manifest, backend) + window) + 4 * scan_pixels * (2 * classes + 6)
    if limit is not None and standing + one > limit:
        raise BudgetError(
            f"{limit / 2**20:.0f} MiB of memory for a volume of {' x '.join(map(str, plan.shape))} voxels "
            f"in windows of {' x '.join(map(str, patch))}",
            f"about {math.ceil((standing + one) / 2**20)} MiB, the least for one window at a time",
            "free memory, raise memory_mb, or crop the scan",
        )
    lanes = window_lanes(manifest, backend, lanes)
    if limit is not None and standing + lanes * one > limit:
        lanes = 1
    return VolumeMemory(lanes, lanes * batch, standing + lanes * one)


def window_lanes(manifest: Manifest, backend: str, lanes: int) -> int:
    """How many of ``lanes`` a model's windows may have: all, or one where a window is a large one."""
    return lanes if window_bytes(manifest, backend) <= LANE_BYTES else 1


def window_bytes(manifest: Manifest, backend: str) -> int:
    """What the network of a model that takes volumes holds while it runs one window, and keeps for the next."""
    volume = stated(manifest.volume, "volume")
    if volume.window_mb is None:
        maps = LEAST_CHANNELS * max(MAPS_PER_CHANNEL.values())
        return int(4 * math.prod(volume.patch) * maps)
    return int(volume.window_mb * WINDOW_FACTOR.get(backend, max(WINDOW_FACTOR.values()))) << 20


def network_bytes(plan: SlicePlan, manifest: Manifest, backend: str) -> int:
    """What the networks hold while they run one slice, and keep for the next."""
    channels = max([LEAST_CHANNELS, *(f.channels for f in manifest.features if f.stride == 1)])
    maps = MAPS_PER_CHANNEL.get(backend, max(MAPS_PER_CHANNEL.values()))
    return 4 * plan.padded_rows * plan.padded_cols * channels * maps


def available_bytes() -> int | None:
    """Memory this process may still take: the kernel's estimate, or what its control groups leave if that is less.

    Limits are read of control groups of version 2. None where the system does not say (anything but Linux).
    """
    found = []
    meminfo = _read(Path("/proc/meminfo"))
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) << 10)
    found += [left for left in map(_left_in, _control_groups()) if left is not None]
    return min(found, default=None)


def _control_groups() -> list[Path]:
    """The control group of this process and those around it, each of which may have a limit, from the root down."""
    root = Path("/sys/fs/cgroup")
    lines = _read(Path("/proc/self/cgroup")).splitlines()
    # A container may name the folder that its host sees, which is not there: its limit is at the root.
    inside = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    parts = inside.split("/") if inside else []
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _left_in(group: Path) -> int | None:
    """Bytes that a control group may still take; None without a limit."""
    most, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not (most.isdigit() and used.isdigit()):
        return None
    # Pages of files that were read count as used, though the kernel gives these up for whoever wants memory.
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return max(0, int(most) - int(used) + int(stat.get("inactive_file", 0)))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
