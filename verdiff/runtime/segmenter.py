"""The runtime's one door: load a bundle once, segment many scans."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from verdiff.bundle import Manifest, Trust, open_bundle, resolve_model
from verdiff.choices import AUTO
from verdiff.errors import BackendError, InputError
from verdiff.runtime.backends import Backend, choose_backend, loops_on_device, on_device, open_backend
from verdiff.runtime.call import Request, open_call
from verdiff.runtime.clock import Clock
from verdiff.runtime.frontier import Pace
from verdiff.runtime.processes import IN_EACH, require_process
from verdiff.runtime.provenance import describe_model
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import Choices, resolve_sampling
from verdiff.runtime.selftest import self_test as run_self_test
from verdiff.runtime.selftest import time_networks

if TYPE_CHECKING:
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.device.session import DeviceSession
    from verdiff.runtime.workload import Workload


@dataclass(frozen=True)
class Segmenter:
    """A model loaded on a device. Calls share nothing but the networks; one call at a time.

    It belongs to the process that loaded it: it cannot be pickled, and after a fork the child has to load its own. The
    bundle's file is not needed any more.

    Attributes:
        manifest: What the bundle says about its model.
        backend: The networks.
        diffusion: Whether the model has a denoiser; without one the prior's answer is the result.
        model: Identity of the model, for the provenance.
        memory_mb: The most a call may take in MiB, or None for what the machine has free.
        chunk: Slices worked on at once, or None for the backend's batch. It never changes the mask.
        differences: Mean difference from the bundle's golden outputs of each stage; empty without self-test.
        pace: What the networks were seen to need at load, on the host; None without self-test.
        chosen: For ``precision="auto"``, what was chosen from and why; empty else.
    """

    manifest: Manifest
    backend: Backend | DeviceBackend
    diffusion: bool
    model: dict[str, Any]
    memory_mb: int | None = None
    chunk: int | None = None
    differences: dict[str, float] = field(default_factory=dict)
    pace: Pace | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    _process: int = field(default_factory=os.getpid, init=False, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        self_test: bool = True,
        memory_mb: int | None = None,
        chunk: int | None = None,
        stream: Any = None,
        priority: int | None = None,
        graphs: bool | None = None,
        work: Callable[[Manifest], Workload] | None = None,
        sha256: str | None = None,
        trusted_key: str | Path | None = None,
    ) -> Segmenter:
        """Open and verify a bundle, load its networks, test them against its goldens and warm them up.

        Args:
            model: A shipped model's name, a bundle's path, or None for the default model.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. A device that is not there is an error.
            backend: ``"auto"``, ``"onnxruntime"``, ``"openvino"``, ``"tensorrt"`` or ``"tensorrt-rtx"``; for ONNX
                Runtime's own TensorRT providers ``"onnxruntime-tensorrt"`` or ``"onnxruntime-tensorrt-rtx"``.
            precision: ``"fp32"``, ``"fp16"`` or ``"int8"`` (a bundle that carries it), ``"bf16"`` (OpenVINO), or on
                processors ``"auto"``: the fastest on this one of what passed its gate for it, tested and timed now
                (:mod:`verdiff.runtime.precision`).
            threads: CPU threads of a network call; None is every core this process may use.
            self_test: Compare with the bundle's goldens, which is also the warm-up.
            memory_mb: The most a call may take, in MiB; None is what the machine has free at the call. On a GPU it
                is device memory, beside that of the engines or of ONNX Runtime's sessions.
            chunk: Slices worked on at once; None is the backend's choice.
            stream: On a GPU: the caller's CUDA stream, on which all work is put (an address, or a stream of
                cuda-core, CuPy, PyTorch or pycuda, which is kept alive); None for a stream of its own.
            priority: On a GPU: of that stream of its own; lower numbers go first.
            graphs: On a GPU with ONNX Runtime: replay its runs as CUDA graphs; None is where it can.
            work: With precision ``"auto"``: that one scan is all this is loaded for, from
                :func:`verdiff.runtime.workload.one_scan`. What would take longer to try than it could save on it is
                not tried. None is for many scans.
            sha256: Pins the bundle: SHA-256 of its manifest, which holds the hash of every other file
                (:attr:`verdiff.bundle.Bundle.manifest_sha256`).
            trusted_key: PEM file of Ed25519 public keys, one of which has signed the bundle (docs/bundle.md).

        Raises:
            BundleError: The bundle is missing, damaged, too new or unsafe.
            UntrustedBundleError: It is not the one pinned, or no trusted key has signed it.
            BackendError: No backend, device, engine or precision as asked for, the self-test failed, or a model that
                takes volumes on a GPU.
        """
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk = {chunk}", "1 slice or more", "leave it out for the backend's choice")
        bundle = open_bundle(resolve_model(model), trust=Trust(sha256, trusted_key))
        loaded: Backend | DeviceBackend
        tested, why = {}, {}
        if precision == AUTO:
            from verdiff.runtime.precision import open_fastest

            fastest = open_fastest(
                bundle,
                backend=backend,
                device=device,
                threads=threads,
                work=None if work is None else work(bundle.manifest),
            )
            loaded, tested, why = fastest.backend, fastest.differences, fastest.chosen
        elif on_device(chosen := choose_backend(backend, device, precision), device):
            _require_slices(bundle.manifest, device)
            from verdiff.runtime.device.opening import open_device

            loaded = open_device(
                bundle,
                backend=chosen,
                device=device,
                precision=precision,
                threads=threads,
                memory_mb=memory_mb,
                stream=stream,
                priority=priority,
                graphs=graphs,
            )
        else:
            loaded = open_backend(bundle, backend=chosen, precision=precision, threads=threads)
        try:
            if self_test and precision != AUTO:
                tested = run_self_test(loaded, bundle)
        except BaseException:
            if loops_on_device(loaded):
                loaded.close()
            raise
        pace = time_networks(loaded, bundle) if self_test and not loops_on_device(loaded) else None
        described = describe_model(bundle)
        return cls(bundle.manifest, loaded, bundle.has("denoiser"), described, memory_mb, chunk, tested, pace, why)

    def segment(
        self,
        scan: Any,
        *,
        steps: int | None = None,
        samples: int | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        fusion: str | None = None,
        policy: str | None = None,
        force: bool = False,
        budget_ms: float | None = None,
        cancel: Callable[[], bool] | None = None,
        prior_only: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Segmentation:
        """Segment one scan; None leaves the model's default.

        A model that takes volumes (``manifest.volume``) answers in one pass over overlapping windows: see
        :func:`verdiff.runtime.volumetric.segment_volume` for what it refuses and what a budget means to it.

        Args:
            scan: A :class:`verdiff.imaging.Volume`, a SimpleITK image, or (array [z, y, x], spacing_mm, direction).
            steps: Denoiser passes a sample.
            samples: Ensemble members; the first n are the same whatever their number.
            seed: Of the noise.
            sampler: ``"ddim"``, ``"ddpm"`` or ``"dpmpp-2m"``.
            fusion: ``"mean"``, ``"steps"``, ``"steps-published"``, or on processors ``"staple"``.
            policy: What not to compute: ``"locate"``, ``"skip"``, ``"agree"`` joined by ``+``
                (:class:`verdiff.runtime.policy.Policy`), ``"whole"`` for nothing, or ``"fast"`` for the fast setting
                on the model's record, which brings steps and samples with it.
            force: Go on with a scan that does not look like the training data; the reasons are recorded.
            budget_ms: Give the best answer by then. With steps, samples, sampler and policy left open, the best
                setting on the model's record that this machine has time for; else the prior's answer for every slice
                and as much of what was asked for as fits. The outcome is ``"budget"`` when it was not all, and
                ``"prior"`` when the time was enough for the prior alone.
            cancel: Asked between chunks and steps; saying yes ends the call with the answer there is. Once only
                the prior's or a part of the sampling is there the outcome is ``"cancelled"``.
            prior_only: The prior's answer without sampling.
            progress: Called with the share of the network calls done, 0 to 1.

        Raises:
            InputError: The scan cannot be used, or an option is out of range.
            UnsuitableScanError: The scan does not look like the training data, and not ``force``.
            BudgetError: Too little time for one prior pass, told before the work by the pace of the load, or too little
                memory for one slice.
            Cancelled: ``cancel`` said yes before every slice had an answer.
            BackendError: This process was forked from the one that loaded the model.
        """
        require_process(self._process)
        clock = Clock(budget_ms, cancel)
        request = Request(
            scan, Choices(steps, samples, seed, sampler, fusion, policy), clock, force, prior_only, progress
        )
        if self.manifest.volume:
            return _segment_volume(self, request)
        with open_call(self, request, anytime=clock.bounded) as call:
            *_, outcome = call.engine.passes()
            return call.result(outcome, call.engine.answer)

    def stream(
        self,
        scan: Any,
        *,
        steps: int | None = None,
        samples: int | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        fusion: str | None = None,
        policy: str | None = None,
        force: bool = False,
        budget_ms: float | None = None,
        cancel: Callable[[], bool] | None = None,
        prior_only: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Segmentation]:
        """As :meth:`segment`, giving each better answer as it comes.

        First the prior's (outcome ``"prior"``), then after 1, 2, 4, ... samples (``"sampling"``), at last the one
        :meth:`segment` would give, bit for bit; of a model that takes volumes that is the only one. Each result stands
        alone. Raises as :meth:`segment` does, at the
        first ``next``.
        """
        require_process(self._process)
        clock = Clock(budget_ms, cancel)
        request = Request(
            scan, Choices(steps, samples, seed, sampler, fusion, policy), clock, force, prior_only, progress
        )
        if self.manifest.volume:
            yield _segment_volume(self, request)
            return
        with open_call(self, request, anytime=True) as call:
            for outcome in call.engine.passes():
                yield call.result(outcome, call.engine.answer.copy())

    def on_device(
        self,
        slices: int,
        rows: int,
        cols: int,
        spacing_mm: tuple[float, float],
        *,
        steps: int | None = None,
        samples: int | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        fusion: str | None = None,
        stream: Any = None,
    ) -> DeviceSession:
        """A session for slices that are on the device already; its memory is taken now, for this one shape.

        Args:
            slices: Of a call.
            rows: Of a slice, in the host's own pixels.
            cols: Of a slice, likewise.
            spacing_mm: Of those pixels: from row to row, from column to column.
            steps: As for :meth:`segment`, with the four after it.
            samples: Ensemble members.
            seed: Of the noise.
            sampler: ``"ddim"``, ``"ddpm"`` or ``"dpmpp-2m"``.
            fusion: ``"mean"``, ``"steps"`` or ``"steps-published"``.
            stream: Where the work is put, as for :meth:`load`; None is the Segmenter's.

        Raises:
            BackendError: The model is not on a device, or no engine holds slices of this size.
            BudgetError: Too little device memory.
            InputError: An option is out of range.
        """
        require_process(self._process)
        if not loops_on_device(self.backend):
            raise BackendError(
                f"a session on the device with the {self.backend.name} backend",
                "a model on a GPU",
                "load the Segmenter with device='cuda:0'",
            )
        from verdiff.runtime.device.session import DeviceSession
        from verdiff.runtime.device.streams import stream_handle

        choices = Choices(steps, samples, seed, sampler, fusion)
        sampling = resolve_sampling(self.manifest, choices, denoiser=self.diffusion)
        shape = slices, rows, cols
        handle = stream_handle(stream)
        return DeviceSession(self.backend, self.manifest, sampling, shape, spacing_mm, handle, keep=stream)

    def close(self) -> None:
        """Give back what is held on a device; on the host there is nothing. Closing twice does no harm.

        A call in another thread is waited for. Within a call of this thread's own (a stream that is not finished, a
        callback) it takes effect when that call ends. A session's arrays keep their memory until they are gone.
        """
        if loops_on_device(self.backend) and os.getpid() == self._process:
            self.backend.close()

    def __reduce__(self) -> NoReturn:
        raise BackendError(
            "a Segmenter to be pickled or copied", "its results, scans or model's name, which can be sent", IN_EACH
        )

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _segment_volume(segmenter: Segmenter, request: Request) -> Segmentation:
    # Most models take slices, and their hosts start sooner without this.
    from verdiff.runtime.volumetric import segment_volume

    return segment_volume(segmenter, request)


def _require_slices(manifest: Manifest, device: str) -> None:
    if manifest.volume:
        raise BackendError(
            f"{manifest.model_id}, which takes volumes, on {device}",
            "a model that takes slices: the loop on a GPU is made for those",
            "pass --device cpu",
        )
