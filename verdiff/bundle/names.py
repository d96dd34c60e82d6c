"""Which models ship with the package, and what a user means by a model's name."""

from __future__ import annotations

import os
from pathlib import Path

from verdiff.errors import BundleError

DEFAULT_MODEL = "spine-mr"
SUFFIX = ".verdiff"
MODELS = Path(__file__).resolve().parent.parent / "models"


def shipped_models() -> dict[str, Path]:
    """Bundles that came with the package, by name, in alphabetical order; they are not opened."""
    return {path.stem: path for path in sorted(MODELS.glob("*" + SUFFIX))}


def shipped_model(name_or_path: str | Path | None) -> Path | None:
    """The bundle that ships under a name; None of a path.

    A shipped name wins over a file of that name in the working folder; for the file write `./spine-mr`, or give a Path.
    """
    return shipped_models().get(name_or_path) if isinstance(name_or_path, str) else None


def model_file(name_or_path: str | Path | None) -> Path | None:
    """The file or folder of a model that was named by its path; None of a shipped one, and where nothing is there."""
    if name_or_path is None or shipped_model(name_or_path) is not None or not os.path.exists(name_or_path):
        return None
    return Path(name_or_path)


def resolve_model(name_or_path: str | Path | None = None) -> Path:
    """The bundle that a user means: the default model for None, a shipped model for its name, else a path.

    A name is looked for as :func:`shipped_model` says.

    Raises:
        BundleError: no such model and no such path; lists the models there are.
    """
    wanted = DEFAULT_MODEL if name_or_path is None else name_or_path
    if (shipped := shipped_model(wanted)) is not None:
        return shipped
    path = _path(wanted)
    if path is not None and name_or_path is not None and os.path.exists(path):
        return path
    names = ", ".join(shipped_models()) or "none in this installation"
    raise BundleError(
        f"no model or bundle {str(wanted)!r}",
        f"a model that ships with verdiff ({names}) or the path of a bundle",
        "list the models with 'verdiff models', or check the path",
    )


def _path(wanted: str | Path) -> Path | None:
    try:
        return Path(wanted).expanduser() if str(wanted) else None
    except RuntimeError as error:
        raise BundleError(
            f"the model {str(wanted)!r}, and this user has no home folder ({error})",
            "a path without ~, or HOME in the environment",
            "give the whole path of the bundle",
        ) from error


def model_argument(path: Path) -> str:
    """What :func:`resolve_model` knows ``path`` by in any working folder: a shipped model's name, or the full path."""
    names = {shipped: name for name, shipped in shipped_models().items()}
    return names.get(path) or str(path.absolute())
