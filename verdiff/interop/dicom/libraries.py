"""The one door to what the extra ``[dicom]`` brings: pydicom, highdicom and pynetdicom, imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

from verdiff.errors import BackendError
from verdiff.extras import install


def require_libraries(*modules: str) -> None:
    """Refuse DICOM objects where a package is missing, before anything is computed for them.

    Args:
        modules: For example ``"highdicom"``.

    Raises:
        BackendError: Says which extra has it.
    """
    for module in modules:
        library(module)


def library(module: str) -> Any:
    """The module ``module``, for example ``"highdicom.seg"``.

    Raises:
        BackendError: Its package is not installed; says which extra has it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"DICOM objects without {module.partition('.')[0]}",
            "the packages of the extra [dicom] beside the lean runtime",
            install("dicom"),
        ) from error
