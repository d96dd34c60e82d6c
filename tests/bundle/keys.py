"""Keys as PEM files, of the kind that signs bundles and of kinds that do not."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def write_pair(folder: Path, name: str, *, passphrase: str | None = None) -> tuple[Path, Path]:
    """A new Ed25519 pair as ``name.pem`` and ``name.pub``, as ``openssl genpkey`` and ``openssl pkey`` write them."""
    return _written(folder, name, ed25519.Ed25519PrivateKey.generate(), passphrase)


def write_other_kind(folder: Path, name: str) -> tuple[Path, Path]:
    """A pair of NIST's P-256."""
    return _written(folder, name, ec.generate_private_key(ec.SECP256R1()), None)


def _written(
    folder: Path, name: str, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, passphrase: str | None
) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    lock = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
