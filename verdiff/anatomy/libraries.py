"""The one door to what the extra ``[anatomy]`` brings: scipy and scikit-image, imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

from verdiff.errors import BackendError
from verdiff.extras import install


def require_libraries() -> None:
    """Refuse vertebrae and surfaces where a package is missing, before anything is loaded for them.

    Raises:
        BackendError: Says which extra has it.
    """
    for module in ("scipy", "skimage"):
        library(module)


def library(module: str) -> Any:
    """The module ``module``, for example ``"scipy.ndimage"``.

    Raises:
        BackendError: Its package is not installed; says which extra has it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"vertebrae and surfaces without {module.partition('.')[0]}",
            "the packages of the extra [anatomy] beside the lean runtime",
            install("anatomy"),
        ) from error
