"""The runtime's one door: load a bundle once, segment many scans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from verdiff.bundle import Trust, open_bundle, resolve_model
from verdiff.errors import BackendError, InputError
from verdiff.keywords import Keywords
from verdiff.options import CallOptions, LoadOptions, SessionOptions
from verdiff.runtime.call import open_call
from verdiff.runtime.clock import Clock
from verdiff.runtime.opening import open_model
from verdiff.runtime.processes import IN_EACH, require_process
from verdiff.runtime.request import Request
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import resolve_sampling
from verdiff.settings import check_options

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.runtime.backends.protocol import Described
    from verdiff.runtime.device.session import DeviceSession
    from verdiff.runtime.frontier import Pace
    from verdiff.runtime.loaded import LoadedModel


@dataclass(frozen=True)
class Segmenter:
    """A model loaded on a device. Calls share nothing but the networks; one call at a time.

    It belongs to the process that loaded it: it cannot be pickled, and after a fork the child has to load its own. The
    bundle's file is not needed any more.

    Attributes:
        loaded: The model, what computes it, and what was seen of it at load.
    """

    loaded: LoadedModel
    _process: int = field(default_factory=os.getpid, init=False, repr=False, compare=False)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about its model."""
        return self.loaded.manifest

    @property
    def backend(self) -> Described:
        """What runs the networks: its name, version, device, precision, threads and batch."""
        return self.loaded.executor.backend

    @property
    def diffusion(self) -> bool:
        """Whether the model has a denoiser; without one the prior's answer is the result."""
        return self.loaded.diffusion

    @property
    def model(self) -> dict[str, Any]:
        """Identity of the model, for the provenance."""
        return self.loaded.identity

    @property
    def memory_mb(self) -> int | None:
        """The most a call may take in MiB, or None for what the machine has free."""
        return self.loaded.memory_mb

    @property
    def chunk(self) -> int | None:
        """Slices worked on at once, or None for the backend's batch. It never changes the mask."""
        return self.loaded.chunk

    @property
    def differences(self) -> dict[str, float]:
        """Mean difference from the bundle's golden outputs of each stage; empty without self-test."""
        return self.loaded.differences

    @property
    def pace(self) -> Pace | None:
        """What the networks were seen to need at load, on the host; None without self-test."""
        return self.loaded.pace

    @property
    def chosen(self) -> dict[str, Any]:
        """For ``precision="auto"``, what was chosen from and why; empty else."""
        return self.loaded.chosen

    @classmethod
    @Keywords(LoadOptions)
    def load(cls, options: LoadOptions) -> Segmenter:
        """Open and verify a bundle, load its networks, test them against its goldens and warm them up.

        On processors precision ``"auto"`` takes the fastest of what passed its gate for this one, tested and timed now
        (:mod:`verdiff.runtime.auto_precision`). A device that is not there is an error.

        Raises:
            BundleError: The bundle is missing, damaged, too new or unsafe.
            UntrustedBundleError: It is not the one pinned by ``sha256``, or no trusted key has signed it.
            BackendError: Backend, device, engine or precision are not there as asked for, the self-test failed, or a
                model that takes volumes is to run on a GPU.
        """
        check_options(options, BackendError)
        trust = Trust(options.sha256, options.trusted_key)
        return cls(open_model(open_bundle(resolve_model(options.model), trust=trust), options))

    @Keywords(CallOptions)
    def segment(self, scan: Any, options: CallOptions) -> Segmentation:
        """Segment one scan: a :class:`verdiff.imaging.Volume`, a SimpleITK image, or (array, spacing_mm, direction).

        The array is [z, y, x]. With ``budget_ms`` alone, the call takes the best setting on the model's record that
        this machine has time for. With steps, samples, sampler or policy beside it, the prior answers every slice
        first, and as much of what was asked for is added as fits. The outcome is ``"budget"`` when not all of it
        fitted, ``"prior"`` when the prior's answer was asked for, is the best setting on record for the time, or was
        all that the time was enough for, and ``"cancelled"`` when ``cancel`` said yes before the end.

        A model that takes volumes (``manifest.volume``) answers in one pass over overlapping windows. docs/runtime.md
        says which options it refuses and what a budget means to it.

        Raises:
            InputError: The scan cannot be used, or an option is out of range.
            UnsuitableScanError: The scan does not look like the training data, and not ``force``.
            BudgetError: Too little time for one prior pass, told before the work by the pace of the load, or too little
                memory for one slice.
            Cancelled: ``cancel`` said yes before every slice had an answer.
            BackendError: This process was forked from the one that loaded the model.
        """
        clock = self._clock(options)
        with open_call(self.loaded, Request(scan, options, clock, anytime=clock.bounded)) as call:
            return call.last()

    @Keywords(CallOptions)
    def check(self, scan: Any, options: CallOptions) -> None:
        """Raise what :meth:`segment` would raise of this scan and these options before it begins; else do nothing.

        The scan, the options, the time and the memory are looked at, and no network runs.
        """
        clock = self._clock(options)
        with open_call(self.loaded, Request(scan, options, clock, anytime=clock.bounded, only_checked=True)):
            pass

    @Keywords(CallOptions)
    def stream(self, scan: Any, options: CallOptions) -> Iterator[Segmentation]:
        """Segment one scan, giving each better answer as it comes.

        The prior's comes first (outcome ``"prior"``), then one after 1, 2, 4, ... samples (``"sampling"``), at last the
        one that :meth:`segment` would give, bit for bit. A model that takes volumes gives only that one. Each result
        stands alone. The errors are those of :meth:`segment`, raised at the first ``next``.
        """
        with open_call(self.loaded, Request(scan, options, self._clock(options), anytime=True)) as call:
            yield from call.results()

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
        sampling = resolve_sampling(self.manifest, options, denoiser=self.diffusion)
        if options.policy is not None:
            raise InputError(f"the policy {options.policy} of a session", "none: every slice is whole", "leave it out")
        shape = slices, rows, cols
        return self.loaded.executor.session(self.manifest, sampling, shape, spacing_mm, options.stream)

    def close(self) -> None:
        """Give back what is held on a device; on the host there is nothing. Closing twice does no harm.

        A call in another thread is waited for. Within a call of this thread's own (a stream that is not finished, a
        callback) it takes effect when that call ends. A session's arrays keep their memory until they are gone.
        """
        if os.getpid() == self._process:
            self.loaded.executor.close()

    def _clock(self, options: CallOptions) -> Clock:
        """The clock of a call, which begins now, in the process that loaded the model and with options that make sense.

        Raises:
            InputError: An option is out of range, or no function where one is called.
        """
        require_process(self._process)
        _check(options)
        return Clock(options.budget_ms, options.cancel)

    def __reduce__(self) -> NoReturn:
        raise BackendError(
            "a Segmenter to be pickled or copied", "its results, scans or model's name, which can be sent", IN_EACH
        )

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(options: CallOptions) -> None:
    """Refuse what no call can be made of. A budget of nothing is one that is spent, which the call itself says."""
    budget: Any = options.budget_ms
    spent = not isinstance(budget, bool) and isinstance(budget, Real) and budget <= 0
    check_options(replace(options, budget_ms=None) if spent else options, InputError)
    for name in ("cancel", "progress"):
        given = getattr(options, name)
        if given is not None and not callable(given):
            raise InputError(f"{name} = {given!r}", "a function", f"correct {name}, or leave it out")
