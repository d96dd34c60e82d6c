"""The runtime's one door: load a bundle once, segment many scans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from verdiff.bundle import Manifest, Trust, open_bundle, resolve_model
from verdiff.choices import AUTO
from verdiff.errors import BackendError, InputError
from verdiff.keywords import Keywords
from verdiff.options import CallOptions, LoadOptions, SessionOptions
from verdiff.runtime.backends import Backend, choose_backend, loops_on_device, on_device, open_backend
from verdiff.runtime.call import Request, open_call
from verdiff.runtime.clock import Clock
from verdiff.runtime.frontier import Pace
from verdiff.runtime.processes import IN_EACH, require_process
from verdiff.runtime.provenance import describe_model
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import resolve_sampling
from verdiff.runtime.selftest import self_test as run_self_test
from verdiff.runtime.selftest import time_networks
from verdiff.settings import check_options

if TYPE_CHECKING:
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.device.session import DeviceSession


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
    @Keywords(LoadOptions)
    def load(cls, options: LoadOptions) -> Segmenter:
        """Open and verify a bundle, load its networks, test them against its goldens and warm them up.

        On processors precision ``"auto"`` takes the fastest of what passed its gate for this one, tested and timed now
        (:mod:`verdiff.runtime.precision`). A device that is not there is an error.

        Raises:
            BundleError: The bundle is missing, damaged, too new or unsafe.
            UntrustedBundleError: It is not the one pinned by ``sha256``, or no trusted key has signed it.
            BackendError: No backend, device, engine or precision as asked for, the self-test failed, or a model that
                takes volumes on a GPU.
        """
        check_options(options, BackendError)
        bundle = open_bundle(resolve_model(options.model), trust=Trust(options.sha256, options.trusted_key))
        loaded: Backend | DeviceBackend
        tested, why, auto = {}, {}, options.precision == AUTO
        if auto:
            from verdiff.runtime.precision import open_fastest

            fastest = open_fastest(
                bundle,
                backend=options.backend,
                device=options.device,
                threads=options.threads,
                work=None if options.work is None else options.work(bundle.manifest),
            )
            loaded, tested, why = fastest.backend, fastest.differences, fastest.chosen
        elif on_device(chosen := choose_backend(options.backend, options.device, options.precision), options.device):
            _require_slices(bundle.manifest, options.device)
            from verdiff.runtime.device.opening import open_device

            loaded = open_device(bundle, chosen, options)
        else:
            loaded = open_backend(bundle, backend=chosen, precision=options.precision, threads=options.threads)
        try:
            if options.self_test and not auto:
                tested = run_self_test(loaded, bundle)
        except BaseException:
            if loops_on_device(loaded):
                loaded.close()
            raise
        pace = time_networks(loaded, bundle) if options.self_test and not loops_on_device(loaded) else None
        described = describe_model(bundle)
        limits = options.memory_mb, options.chunk
        return cls(bundle.manifest, loaded, bundle.has("denoiser"), described, *limits, tested, pace, why)

    @Keywords(CallOptions)
    def segment(self, scan: Any, options: CallOptions) -> Segmentation:
        """Segment one scan: a :class:`verdiff.imaging.Volume`, a SimpleITK image, or (array, spacing_mm, direction).

        The array is [z, y, x]. With ``budget_ms``, and steps, samples, sampler and policy left open, the best setting
        on the model's record is taken that this machine has time for; else the prior answers every slice first, and as
        much of what was asked for is added as fits. The outcome is ``"budget"`` when it was not all, ``"prior"`` when
        the time was enough for the prior alone, ``"cancelled"`` when ``cancel`` said yes before the end.

        A model that takes volumes (``manifest.volume``) answers in one pass over overlapping windows: see
        :mod:`verdiff.runtime.volumetric` for what it refuses and what a budget means to it.

        Raises:
            InputError: The scan cannot be used, or an option is out of range.
            UnsuitableScanError: The scan does not look like the training data, and not ``force``.
            BudgetError: Too little time for one prior pass, told before the work by the pace of the load, or too little
                memory for one slice.
            Cancelled: ``cancel`` said yes before every slice had an answer.
            BackendError: This process was forked from the one that loaded the model.
        """
        require_process(self._process)
        request = Request(scan, options, Clock(options.budget_ms, options.cancel))
        if self.manifest.volume:
            return _segment_volume(self, request)
        with open_call(self, request, anytime=request.clock.bounded) as call:
            *_, outcome = call.engine.passes()
            return call.result(outcome, call.engine.answer)

    @Keywords(CallOptions)
    def stream(self, scan: Any, options: CallOptions) -> Iterator[Segmentation]:
        """As :meth:`segment`, giving each better answer as it comes.

        First the prior's (outcome ``"prior"``), then after 1, 2, 4, ... samples (``"sampling"``), at last the one
        :meth:`segment` would give, bit for bit; of a model that takes volumes that is the only one. Each result stands
        alone. Raises as :meth:`segment` does, at the first ``next``.
        """
        require_process(self._process)
        request = Request(scan, options, Clock(options.budget_ms, options.cancel))
        if self.manifest.volume:
            yield _segment_volume(self, request)
            return
        with open_call(self, request, anytime=True) as call:
            for outcome in call.engine.passes():
                yield call.result(outcome, call.engine.answer.copy())

    @Keywords(SessionOptions)
    def on_device(
        self, slices: int, rows: int, cols: int, spacing_mm: tuple[float, float], options: SessionOptions
    ) -> DeviceSession:
        """A session for slices that are on the device already; its memory is taken now, for this one shape.

        Args:
            slices: Slices of a call.
            rows: Rows of a slice, in the host's own pixels.
            cols: Columns of a slice.
            spacing_mm: Spacing of those pixels: from row to row, from column to column.
            options: How masks are drawn, and where the work is put.

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

        sampling = resolve_sampling(self.manifest, options, denoiser=self.diffusion)
        if options.policy is not None:
            raise InputError(f"the policy {options.policy} of a session", "none: every slice is whole", "leave it out")
        shape, handle = (slices, rows, cols), stream_handle(options.stream)
        return DeviceSession(self.backend, self.manifest, sampling, shape, spacing_mm, handle, keep=options.stream)

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
