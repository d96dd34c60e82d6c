"""A bundle, opened for what computes it: the one place that tells the host's backends from those of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verdiff.choices import AUTO
from verdiff.runtime.backends import choose_backend, on_device, open_backend
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel
from verdiff.runtime.provenance import describe_model
from verdiff.runtime.selftest import self_test

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.options import LoadOptions
    from verdiff.runtime.loaded import Executor


def open_model(bundle: Bundle, options: LoadOptions) -> LoadedModel:
    """Load the networks, test them against the bundle's goldens and warm them up.

    Raises:
        BackendError: See :meth:`verdiff.runtime.Segmenter.load`; nothing is left.
    """
    tested, why, auto = {}, {}, options.precision == AUTO
    executor: Executor
    if auto:
        from verdiff.runtime.auto_precision import open_fastest

        fastest = open_fastest(
            bundle,
            backend=options.backend,
            device=options.device,
            threads=options.threads,
            work=None if options.work is None else options.work(bundle.manifest),
        )
        executor, tested, why = HostExecutor(fastest.backend), fastest.differences, fastest.chosen
    else:
        executor = _open(bundle, options)
    try:
        if options.self_test and not auto:
            tested = self_test(executor, bundle)
        pace = executor.pace(bundle) if options.self_test else None
    except BaseException:
        executor.close()
        raise
    return LoadedModel(
        bundle.manifest,
        executor,
        bundle.has("denoiser"),
        describe_model(bundle),
        options.memory_mb,
        options.chunk,
        tested,
        pace,
        why,
    )


def _open(bundle: Bundle, options: LoadOptions) -> Executor:
    chosen = choose_backend(options.backend, options.device, options.precision)
    if not on_device(chosen, options.device):
        return HostExecutor(
            open_backend(
                bundle,
                backend=chosen,
                precision=options.precision,
                threads=options.threads,
                device=options.device,
            )
        )
    # A host without a GPU never loads that half of the runtime.
    from verdiff.runtime.device.executor import DeviceExecutor
    from verdiff.runtime.device.opening import open_device

    return DeviceExecutor(open_device(bundle, chosen, options))
