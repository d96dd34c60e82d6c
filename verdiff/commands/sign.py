"""``verdiff sign``: the signature of a bundle's manifest, beside the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from verdiff.commands.options import Overwrite
from verdiff.commands.printing import say


def run(
    model: str, key: Path, *, output: Path | None = None, overwrite: bool = False, say: Callable[[str], None]
) -> Path:
    """Sign a bundle that has passed every check, and return where the signature lies.

    Args:
        model: A bundle or a shipped model's name.
        key: PEM file of an Ed25519 private key.
        output: The signature; beside the bundle by default, where it is looked for.
        overwrite: Whether a file there may be replaced.
        say: Takes each line.

    Raises:
        BundleError: The bundle is missing, damaged, too new or unsafe.
        InputError: The key is none.
        OutputError: The signature cannot be written, or its place is taken.
        BackendError: The extra ``[sign]`` is not installed.
    """
    from verdiff.bundle import MANIFEST, open_bundle, resolve_model
    from verdiff.bundle.trust import open_signing_key, signature_path
    from verdiff.files import plan_files
    from verdiff.rehearsal import rehearse

    path = resolve_model(model)
    place = output or signature_path(path)
    plan = plan_files({"signature": place}, inputs={"model": path, "key": key}, overwrite=overwrite)
    bundle = open_bundle(path)
    private = open_signing_key(key)
    work = f"sign manifest {bundle.manifest_sha256} by the key {private.fingerprint}"
    rehearse({"bundle": path, "private key": key}, [work], [place])
    with plan.staged() as staged:
        staged[place].write_bytes(private.sign(bundle.read(MANIFEST)))
    manifest = bundle.manifest
    say(f"{manifest.model_id} {manifest.version}, manifest {bundle.manifest_sha256}")
    say(f"signed by the key {private.fingerprint}")
    say(f"wrote {place}")
    return place


def sign(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle or a shipped model's name.")],
    key: Annotated[
        Path,
        typer.Option(metavar="PEM", help="Ed25519 private key; VERDIFF_KEY_PASSPHRASE has its passphrase, if any."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of the signature; by default BUNDLE.sig, where it is looked for."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Sign a bundle, so that --trusted-key can tell it from any other: the signature lies beside it."""
    run(model, key, output=output, overwrite=overwrite, say=say)
