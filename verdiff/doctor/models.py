"""The models: every file of the shipped bundles, and of the one that was named, against its hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.doctor.report import BAD, GOOD, Check, first_line, refused
from verdiff.errors import BackendError, InputError, UntrustedBundleError, VerdiffError
from verdiff.extras import install

if TYPE_CHECKING:
    from verdiff.bundle import Trust
    from verdiff.options import TrustOptions


def check_models(model: str | None = None, trust: TrustOptions | None = None) -> list[Check]:
    """The shipped models, and ``model`` beside them where it is none of those.

    Args:
        model: A shipped model's name or a bundle's path.
        trust: Which bundle ``model`` must be (the default model, where that is None).
    """
    from verdiff.bundle import DEFAULT_MODEL, Trust, shipped_models

    shipped = shipped_models()
    again = install(flags="--force-reinstall")
    pin = Trust() if trust is None else Trust(trust.sha256, trust.trusted_key)
    pinned = model or DEFAULT_MODEL
    checks = [
        _bundle(f"model {name}", path, again, pin if name == pinned else Trust()) for name, path in shipped.items()
    ]
    if DEFAULT_MODEL not in shipped:
        checks.append(Check(f"model {DEFAULT_MODEL}", BAD, "not there", again))
    if model is not None and model not in shipped:
        checks.append(_named(model, pin))
    return checks


def _named(model: str, trust: Trust) -> Check:
    from verdiff.bundle import resolve_model

    name = f"model {Path(model).name}"
    try:
        path = resolve_model(model)
    except VerdiffError as error:
        return refused(name, BAD, error)
    except (OSError, RuntimeError) as error:
        # A folder that may not be searched, a name that no file can have, a home folder of nobody.
        return Check(name, BAD, f"{model} cannot be looked for ({first_line(error)})", "check the path")
    return _bundle(name, path, "", trust)


def _bundle(name: str, path: Path, remedy: str, trust: Trust) -> Check:
    from verdiff.bundle import open_bundle

    try:
        bundle = open_bundle(path, trust=trust)
    except (UntrustedBundleError, InputError, BackendError) as error:
        # Of the pin or the key; installing again would bring the same bundle.
        return refused(name, BAD, error)
    except VerdiffError as error:
        return Check(name, BAD, error.found, remedy or error.remedy)
    manifest = bundle.manifest
    precisions = ", ".join(bundle.precisions("prior"))
    return Check(name, GOOD, f"{manifest.version} in {precisions}, {len(manifest.files)} files verified")
