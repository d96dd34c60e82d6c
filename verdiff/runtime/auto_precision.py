"""``precision="auto"``: of what passed its gate for this processor, what is fastest on it, by trying.

What passed is on record in the manifest, for each backend and the instructions it ran with; a record from other
instructions counts only where the arithmetic cannot depend on them. What is fastest is timed, because no rule knows:
bytes are slower than floats on one processor and three times faster on the next. Trying takes time, so that a
candidate for one scan alone is tried only where it could save more on that scan than its trial takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.bundle import graph_name
from verdiff.choices import AUTO, BACKENDS
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.precisions import REDUCED, REFERENCE, TABLE, processor_precision
from verdiff.runtime.backends import choose_backend, installed_backends, open_backend
from verdiff.runtime.host_executor import HostExecutor, time_networks
from verdiff.runtime.processor import instruction_set
from verdiff.runtime.selftest import self_test
from verdiff.runtime.workload import NetworkPasses

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.bundle.objects import GateRecord
    from verdiff.runtime.backends import Backend

EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino"}
# Timings of each candidate, taken in turns so that a slow moment meets all of them; fewer where one scan waits.
ROUNDS, ROUNDS_FOR_ONE = 5, 1
# What can be saved at most by a backend in another precision than FP32 and in FP32, as a share of the time that ONNX
# Runtime takes in FP32. ONNX Runtime computes the graphs of other precisions in floats, and is no faster with them.
MOST_SAVED = {"openvino": (0.6, 0.2), "onnxruntime": (0.0, 0.0)}
# What it takes to open a backend, to test it and to compute slices of a new size for the first time, in times of what
# ONNX Runtime takes for it: OpenVINO compiles the networks for every size.
TRIAL = {"openvino": 15.0, "onnxruntime": 1.0}


@dataclass(frozen=True)
class Fastest:
    """What ``"auto"`` came to.

    Attributes:
        backend: The networks, tested and warm.
        differences: Differences that its self-test found.
        chosen: Plain values for the provenance: what was asked for, why this, what each candidate took or why it
            was out of the question, and the seconds that choosing took.
    """

    backend: Backend
    differences: dict[str, float]
    chosen: dict[str, Any]


@dataclass(frozen=True)
class _Candidate:
    precision: str
    backend: Backend
    differences: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.precision} on {self.backend.name}"


def open_fastest(
    bundle: Bundle, *, backend: str, device: str, threads: int | None, work: NetworkPasses | None = None
) -> Fastest:
    """Load, test and time what may run here, and keep the fastest.

    A candidate is loaded and runs the bundle's generated image a few times: with ``spine-mr`` four candidates take
    about six processor seconds, most of them OpenVINO's compiling.

    Args:
        bundle: The model.
        backend: ``"auto"`` for every installed one, or the one to choose a precision for.
        device: ``"cpu"``.
        threads: See :func:`~verdiff.runtime.backends.open_backend`.
        work: Work of the one scan that this is for; None is for many scans, where every candidate is worth its trial.

    Raises:
        BackendError: Another device than the processor, a backend that is not installed, or no candidate passed its
            self-test.
    """
    begun = perf_counter()
    if device != "cpu" or backend not in (AUTO, *BACKENDS):
        raise BackendError(
            f"precision {AUTO!r} on {device} with the {backend} backend",
            "a named precision beside the processor's own backends",
            "pass --precision fp32 or fp16",
        )
    # It raises where the backend is not installed.
    names = installed_backends() if backend == AUTO else ()
    names = names or (choose_backend(backend, device, REFERENCE),)
    allowed, said = permitted(bundle, names, instruction_set())
    if backend == AUTO:
        said += _not_installed(bundle, names, instruction_set())
    candidates: list[_Candidate] = []
    trial = _Trial(bundle, work)
    for name, precision in trial.order(allowed):
        if (reason := trial.not_worth(name, precision)) is not None:
            trial.left_out = True
            said.append({"precision": precision, "backend": name, "refused": reason})
            continue
        try:
            before = perf_counter()
            opened = open_backend(bundle, backend=name, precision=precision, threads=threads)
            candidates.append(_Candidate(precision, opened, self_test(HostExecutor(opened), bundle)))
            trial.took(opened, perf_counter() - before)
        except BackendError as error:
            said.append({"precision": precision, "backend": name, "refused": error.found})
    if not candidates:
        raise BackendError(
            "; ".join(str(each["refused"]) for each in said),
            "a precision that passes the self-test here",
            "run 'verdiff doctor'",
        )
    seconds = _timed(candidates, bundle, work)
    order = sorted(zip(seconds, range(len(candidates)), strict=True))
    for took, index in order:
        each = candidates[index]
        # One that has none to be compared with was not timed.
        slice_ms = round(1000 * took, 2) if len(candidates) > 1 else None
        said.append({"precision": each.precision, "backend": each.backend.name, "slice_ms": slice_ms})
    best = candidates[order[0][1]]
    chosen = {
        "asked": AUTO,
        "because": _because(best, candidates, order, trial),
        "candidates": said,
        "instructions": instruction_set(),
        "seconds": round(perf_counter() - begun, 2),
    }
    return Fastest(best.backend, best.differences, chosen)


def permitted(
    bundle: Bundle, backends: tuple[str, ...], instructions: str
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Backend and precision of everything whose gate holds for these instructions, and why the rest is out.

    FP32 always may run: it is what the gates compare with.
    """
    found = [(name, REFERENCE) for name in backends]
    out: list[dict[str, Any]] = []
    for precision in REDUCED:
        if not bundle.has("prior", processor_precision(precision)):
            continue
        record = bundle.manifest.gates.get(TABLE[precision].gate)
        for name in backends:
            reason = _objection(bundle, precision, record, name, instructions)
            if reason is None:
                found.append((name, precision))
            elif record is not None:
                out.append({"precision": precision, "backend": name, "refused": reason})
    return found, out


def _objection(
    bundle: Bundle, precision: str, record: GateRecord | None, backend: str, instructions: str
) -> str | None:
    """Why the gate's record does not let this run here; None where it does."""
    judged = None if record is None else record.backends.get(backend)
    if record is None or judged is None:
        return f"no gate of {precision} on {backend} is on record"
    stored = processor_precision(precision)
    files = {role: bundle.manifest.files.get(graph_name(role, stored)) for role in judged.graphs}
    if not files or files != judged.graphs:
        return "the gate on record is of other graphs"
    if judged.instructions != instructions and not record.saturation_free:
        return f"the gate was passed with {judged.instructions} instructions, and this is {instructions}"
    return None


def _not_installed(bundle: Bundle, names: tuple[str, ...], instructions: str) -> list[dict[str, Any]]:
    """What passed its gate for these instructions on a backend that is not installed: worth knowing of."""
    missing = tuple(name for name in BACKENDS if name not in names)
    return [
        {"precision": precision, "backend": name, "refused": f"{name} is not installed: {install(EXTRAS[name])}"}
        for name, precision in permitted(bundle, missing, instructions)[0]
        if precision != REFERENCE
    ]


@dataclass
class _Trial:
    """Which candidates are worth their trial: for one scan those that can save more on it, for many scans all."""

    bundle: Bundle
    work: NetworkPasses | None
    left_out: bool = False
    _unit_s: float = 0.0
    _scan_s: float = math.inf

    def order(self, allowed: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """For one scan the first as it stands, then what can save most."""
        if self.work is None:
            return allowed
        return allowed[:1] + sorted(allowed[1:], key=lambda each: -_most_saved(*each))

    def took(self, opened: Backend, seconds: float) -> None:
        """A backend was opened and tested in so many seconds: what the scan will take now, and what a trial takes."""
        if self.work is not None:
            self._unit_s = self._unit_s or seconds / TRIAL[opened.name]
            self._scan_s = min(self._scan_s, self.work.seconds(time_networks(opened, self.bundle)))

    def not_worth(self, backend: str, precision: str) -> str | None:
        """Why it is not tried; None where it is."""
        if self.work is None or not self._unit_s:
            return None
        costs, saves = self._unit_s * TRIAL[backend], self._scan_s * _most_saved(backend, precision)
        if costs < saves:
            return None
        if not saves:
            return f"not tried for one scan: {backend} is no quicker with it than with fp32"
        return f"not tried for one scan, which it could make {saves:.1f} s quicker at most: trying takes {costs:.1f} s"


def _most_saved(backend: str, precision: str) -> float:
    return MOST_SAVED[backend][precision == REFERENCE]


def _timed(candidates: list[_Candidate], bundle: Bundle, work: NetworkPasses | None) -> list[float]:
    """Seconds that each candidate's networks need for one slice of the generated image.

    With as many passes of the denoiser as the one scan's setting asks for, or the default setting where none is known.
    """
    if len(candidates) == 1:
        return [0.0]
    defaults, pixels = bundle.manifest.defaults, bundle.golden()["image"][0, 0].size
    slice_alone = NetworkPasses(pixels, defaults.steps * defaults.samples if work is None else work.passes)
    taken: list[list[float]] = [[] for _ in candidates]
    for _ in range(ROUNDS if work is None else ROUNDS_FOR_ONE):
        for each, times in zip(candidates, taken, strict=True):
            times.append(slice_alone.seconds(time_networks(each.backend, bundle)))
    return [float(np.median(times)) for times in taken]


def _because(
    best: _Candidate,
    candidates: list[_Candidate],
    order: list[tuple[float, int]],
    trial: _Trial,
) -> str:
    if len(candidates) == 1:
        return f"{best.name} is all that {'is worth trying' if trial.left_out else 'may run'} here"
    (took, _), (next_took, runner_up) = order[:2]
    return (
        f"{best.name} takes {1000 * took:.1f} ms a test slice, {candidates[runner_up].name} {1000 * next_took:.1f} ms"
    )
