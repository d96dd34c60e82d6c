"""What the rivals need and a shipped model does not carry: graphs in FP16, and engines of them for this GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from verdiff.bundle import Bundle, open_bundle
from verdiff.engines import cache_path, find_package, prepare_folder
from verdiff.errors import BackendError, BundleError
from verdiff.extras import install

Say = Callable[[str], object]


def with_half_graphs(bundle: Bundle, say: Say) -> Bundle:
    """``bundle`` if it has graphs in FP16, else what ``verdiff export --fp16`` makes of it.

    The conversion is kept in the user's cache under the bundle's hash, so that engines built from it can be built
    again by the command in their sidecars.

    Raises:
        BackendError: onnx is not installed, or the cache is not this user's own.
        VerificationError: The bundle carries no record of the gate to convert by.
        OutputError: The cache cannot be written.
    """
    if bundle.has("prior", "fp16"):
        return bundle
    folder = prepare_folder(cache_path().with_name("bundles"))
    path = folder / f"{bundle.manifest.model_id}-fp16-{bundle.manifest_sha256[:16]}.verdiff"
    with suppress(BundleError):
        # One that is damaged is made again.
        return open_bundle(path)
    try:
        from verdiff.export.exporting import run
        from verdiff.options import ExportOptions
    except ImportError as error:
        raise BackendError(
            f"no graphs in FP16, and nothing to convert with ({error})", "onnx", install("export")
        ) from error
    say(f"converting {bundle.manifest.model_id} to FP16")
    # A damaged file of this name is an earlier conversion: nothing else lies in this folder.
    run(bundle.path, ExportOptions(output=path, precisions=("fp16",), overwrite=True), say=lambda line: None)
    return open_bundle(path)


def build_missing(bundle: Bundle, *, backend: str, precision: str, device: str, say: Say) -> None:
    """The engines of a TensorRT backend, as ``verdiff build`` makes them, where the cache has none yet.

    Nothing is done for other backends, or where the library is not installed: loading says so.

    Raises:
        BackendError: The device or TensorRT refuses.
        OutputError: The cache cannot be written.
    """
    flavour = backend.replace("-", "_")
    if not backend.startswith("tensorrt") or find_package(flavour) is None:
        return
    from verdiff.engines.build import BuildOptions, build_engines

    def told(line: str) -> None:
        say(line)

    options = BuildOptions(str(bundle.path), precision, flavour=flavour, device=device)
    build_engines(options, say=told)
