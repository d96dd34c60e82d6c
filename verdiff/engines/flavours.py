"""The two flavours of TensorRT, and which of their Python packages is installed; nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from verdiff.errors import BackendError
from verdiff.extras import install

CUDA_MAJORS = ("13", "12")


@dataclass(frozen=True)
class Flavour:
    """One library that builds and runs engines.

    Attributes:
        name: Name in keys and sidecars, and of the Python module.
        title: Name that people use.
        option: Name on the command line.
        modules: Python modules to try, the first that is there.
        extra: The extra of verdiff that installs it.
    """

    name: str
    title: str
    option: str
    modules: tuple[str, ...]
    extra: str


TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt", ("tensorrt", "tensorrt_bindings"), "tensorrt")
# The wheels of bindings and libraries alone, which are all that is needed, have no module `tensorrt_rtx`.
TENSORRT_RTX = Flavour(
    "tensorrt_rtx", "TensorRT-RTX", "tensorrt-rtx", ("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt-rtx"
)
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}
LEAN_MODULES = ("tensorrt_lean", "tensorrt_lean_bindings")


@dataclass(frozen=True)
class Package:
    """An installed TensorRT.

    Attributes:
        flavour: A key of :data:`FLAVOURS`.
        module: The Python module to import.
        version: Version such as ``"10.13.0.35"``; ``""`` where its package does not tell.
        cuda: Major version of the CUDA it was built for, such as ``"13"``; ``""`` where its package does not tell.
        lean: Whether it is the lean runtime, which builds nothing and loads version-compatible engines only.
    """

    flavour: str
    module: str
    version: str
    cuda: str
    lean: bool = False


def find_package(flavour: str, *, lean_will_do: bool = False) -> Package | None:
    """The installed package of a flavour; ``lean_will_do`` takes TensorRT's lean runtime where the full one is not."""
    module = _first(FLAVOURS[flavour].modules)
    if module is not None:
        return Package(flavour, module, *_described(flavour))
    if lean_will_do and flavour == TENSORRT.name and (module := _first(LEAN_MODULES)) is not None:
        return Package(flavour, module, *_described("tensorrt_lean"), lean=True)
    return None


def installed_flavours() -> tuple[str, ...]:
    """Names of the flavours that can build here, TensorRT first."""
    return tuple(name for name in FLAVOURS if find_package(name) is not None)


def require_package(flavour: str, *, lean_will_do: bool = False) -> Package:
    """The installed package of a flavour.

    Raises:
        BackendError: It is not installed; names the extra.
    """
    package = find_package(flavour, lean_will_do=lean_will_do)
    if package is None:
        wanted = FLAVOURS[flavour]
        others = ", ".join(FLAVOURS[name].title for name in installed_flavours()) or "none"
        raise BackendError(
            f"{wanted.title} is not installed (installed: {others})",
            f"the Python package of {wanted.title}",
            install(wanted.extra),
        )
    return package


def _first(modules: tuple[str, ...]) -> str | None:
    for module in modules:
        spec = find_spec(module)
        # A folder of type stubs alone is found too, as a namespace without a file of its own.
        if spec is not None and spec.origin is not None:
            return module
    return None


def _described(stem: str) -> tuple[str, str]:
    # It takes 30 ms to import, which nobody without TensorRT should wait for.
    from importlib import metadata

    for distribution, cuda in _distributions(stem):
        try:
            return metadata.version(distribution), cuda
        except metadata.PackageNotFoundError:
            continue
    return "", ""


def _distributions(stem: str) -> Iterator[tuple[str, str]]:
    for cuda in CUDA_MAJORS:
        yield f"{stem}_cu{cuda}_bindings", cuda
    yield stem, ""
