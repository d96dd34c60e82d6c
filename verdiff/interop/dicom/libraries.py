"""The one door to what the extra ``[dicom]`` brings: pydicom, highdicom and pynetdicom, imported when first used."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

from verdiff.errors import BackendError
from verdiff.extras import install


def require_libraries(*modules: str) -> None:
    """Refuse DICOM objects where a package is missing, before anything is computed for them.

    Args:
        modules: Names of modules, such as ``"highdicom"``.

    Raises:
        BackendError: Says which extra has it.
    """
    for module in modules:
        library(module)


@cache
def _hush() -> None:
    """Keep pydicom's remarks on odd values off the terminal: they quote what may be a patient's name or number."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


def library(module: str) -> Any:
    """The module ``module``, for example ``"highdicom.seg"``.

    Raises:
        BackendError: Its package is not installed; says which extra has it.
    """
    _hush()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"DICOM objects without {module.partition('.')[0]}",
            "the packages of the extra [dicom] beside the lean runtime",
            install("dicom"),
        ) from error
