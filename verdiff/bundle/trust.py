"""Whose bundle it is: a pinned hash of the manifest, or a signature of it by a trusted key.

The hashes inside a bundle show damage. Whoever can change a file can change the manifest too, so what shows tampering
comes from outside: a hash received another way, or an Ed25519 signature (RFC 8032) that lies beside the bundle.
The manifest holds the hash of every other file, so both are of the manifest's bytes alone.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verdiff.choices import SHA256
from verdiff.errors import BackendError, InputError, UntrustedBundleError
from verdiff.extras import install

SIGNATURE_SUFFIX = ".sig"
SIGNATURE_BYTES = 64
PASSPHRASE = "VERDIFF_KEY_PASSPHRASE"

_MAX_KEY_BYTES = 1 << 16
_PUBLIC_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_MAKE_ONE = "make one with 'openssl genpkey -algorithm ed25519'"
_FROM_PUBLISHER = "do not use this bundle; get it, and what names it, from its publisher"


@dataclass(frozen=True)
class Trust:
    """What a bundle must match before its manifest is believed; by default nothing.

    Attributes:
        sha256: SHA-256 of ``manifest.json``, 64 hexadecimal digits: this bundle and no other.
        trusted_key: PEM file of one or more Ed25519 public keys; one of them has signed the bundle.
    """

    sha256: str | None = None
    trusted_key: str | Path | None = None

    def check(self, path: Path, manifest: bytes) -> dict[str, str]:
        """Refuse the bundle at ``path`` if it is not the one that is trusted.

        Args:
            path: The bundle; its signature lies beside it.
            manifest: The bytes of its ``manifest.json``.

        Returns:
            What it was compared with, for the provenance: ``pinned_sha256`` and ``signed_by``, the fingerprint of the
            key; empty where nothing was asked for.

        Raises:
            UntrustedBundleError: Another manifest than the pinned one, no signature, or none by a trusted key.
            InputError: The pin or the key is none.
            BackendError: A key is given and the extra ``[sign]`` is not installed.
        """
        found: dict[str, str] = {}
        if self.sha256 is not None:
            found["pinned_sha256"] = _pinned(path, manifest, self.sha256)
        if self.trusted_key is not None:
            found["signed_by"] = _signer(path, manifest, Path(self.trusted_key))
        return found


def signature_path(bundle: Path) -> Path:
    """Where the signature of a bundle lies: ``model.verdiff.sig`` beside ``model.verdiff``, of a folder alike."""
    return Path(os.path.abspath(bundle) + SIGNATURE_SUFFIX)


@dataclass(frozen=True)
class SigningKey:
    """A private key that was opened.

    Attributes:
        fingerprint: SHA-256 of its public key, as provenances name it.
    """

    _private: Any = field(repr=False)
    fingerprint: str

    def sign(self, manifest: bytes) -> bytes:
        """The signature of a manifest (the bytes of ``manifest.json``), 64 bytes."""
        signature: bytes = self._private.sign(manifest)
        return signature


def open_signing_key(key: Path) -> SigningKey:
    """The private key of a file.

    Args:
        key: PEM file of an Ed25519 private key (PKCS #8). The passphrase of an encrypted one is taken from the
            environment variable ``VERDIFF_KEY_PASSPHRASE``.

    Raises:
        InputError: The key cannot be read, or is no Ed25519 private key.
        BackendError: The extra ``[sign]`` is not installed.
    """
    serialization, ed25519 = _libraries()
    passphrase = os.environ.get(PASSPHRASE)
    try:
        private = serialization.load_pem_private_key(
            _key_bytes(key), None if passphrase is None else passphrase.encode("utf-8")
        )
    except _unusable() as error:
        raise InputError(
            f"{key} is no private key that can be opened ({error})",
            "an Ed25519 private key as PEM (PKCS #8)",
            f"{_MAKE_ONE}; if it is encrypted, put its passphrase into {PASSPHRASE}",
        ) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise InputError(
            f"{key} holds a key of another kind ({type(private).__name__})",
            "an Ed25519 private key",
            _MAKE_ONE,
        )
    return SigningKey(private, _fingerprint(private.public_key()))


def _pinned(path: Path, manifest: bytes, sha256: str) -> str:
    if re.fullmatch(SHA256, sha256) is None:
        raise InputError(
            f"the pinned hash {sha256!r}",
            "64 hexadecimal digits, the whole SHA-256 of a manifest",
            "take manifest_sha256 from the publisher of the model; 'verdiff info BUNDLE' prints that of a bundle",
        )
    digest = hashlib.sha256(manifest).hexdigest()
    if digest != sha256.lower():
        raise UntrustedBundleError(
            f"{path} has the manifest {digest}", f"{sha256.lower()}, which was pinned", _FROM_PUBLISHER
        )
    return digest


def _signer(path: Path, manifest: bytes, trusted_key: Path) -> str:
    """Fingerprint of the trusted key that signed a manifest."""
    keys = _public_keys(trusted_key)
    place = signature_path(path)
    expected = f"a signature beside it by a key in {trusted_key}"
    try:
        with place.open("rb") as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError as error:
        raise UntrustedBundleError(
            f"{path} is not signed: no {place.name} beside it", expected, _FROM_PUBLISHER
        ) from error
    except OSError as error:
        raise UntrustedBundleError(
            f"the signature {place} cannot be read ({error.strerror or error})", expected, "check its permissions"
        ) from error
    if len(signature) != SIGNATURE_BYTES:
        much = "more" if len(signature) > SIGNATURE_BYTES else str(len(signature))
        raise UntrustedBundleError(
            f"{place} is no Ed25519 signature ({much} bytes)", f"{SIGNATURE_BYTES} bytes", _FROM_PUBLISHER
        )
    invalid = _exceptions().InvalidSignature
    for key in keys:
        try:
            key.verify(signature, manifest)
        except invalid:
            continue
        return _fingerprint(key)
    raise UntrustedBundleError(
        f"{path} was signed by another key, or changed after it was signed ({place.name} does not fit)",
        expected,
        _FROM_PUBLISHER,
    )


def _public_keys(path: Path) -> list[Any]:
    serialization, ed25519 = _libraries()
    data = _key_bytes(path)
    expected = "one or more Ed25519 public keys as PEM"
    remedy = "make it of the private key with 'openssl pkey -in KEY -pubout', and give that to those who verify"
    if b"PRIVATE KEY-----" in data:
        raise InputError(f"{path} holds a private key", f"{expected}; a private key stays with who signs", remedy)
    blocks = _PUBLIC_PEM.findall(data)
    if not blocks:
        raise InputError(f"{path} holds no public key", expected, remedy)
    keys = []
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block)
        except _unusable() as error:
            raise InputError(f"{path} holds a damaged key ({error})", expected, remedy) from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(f"{path} holds a key of another kind ({type(key).__name__})", expected, remedy)
        keys.append(key)
    return keys


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"the key {path} cannot be read ({reason})", "a PEM file", "check the path") from error
    if len(data) > _MAX_KEY_BYTES:
        raise InputError(
            f"{path} is larger than any key", f"a PEM file of at most {_MAX_KEY_BYTES} bytes", "check the path"
        )
    return data


def _fingerprint(key: Any) -> str:
    """SHA-256 of a public key as SubjectPublicKeyInfo in DER, as 'openssl pkey -pubin -outform DER | sha256sum'."""
    serialization, _ = _libraries()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _unusable() -> tuple[type[Exception], ...]:
    """What the library raises of a damaged key, a wrong passphrase, or a kind of key that it does not know."""
    return ValueError, TypeError, _exceptions().UnsupportedAlgorithm


def _exceptions() -> Any:
    return importlib.import_module("cryptography.exceptions")


def _libraries() -> tuple[Any, Any]:
    try:
        return (
            importlib.import_module("cryptography.hazmat.primitives.serialization"),
            importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519"),
        )
    except ImportError as error:
        raise BackendError(
            "a signature to make or to verify without cryptography",
            "the package of the extra [sign] beside the lean runtime",
            install("sign"),
        ) from error
