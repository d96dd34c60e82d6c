"""A bundle is the one that was pinned or signed, or it is refused by name before its manifest is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.factory import FILES, make_bundle, make_manifest
from tests.bundle.keys import write_other_kind, write_pair
from verdiff.bundle import MANIFEST, Manifest, Trust, open_bundle, write_bundle
from verdiff.bundle.trust import PASSPHRASE, open_signing_key, signature_path
from verdiff.errors import BackendError, BundleError, InputError, UntrustedBundleError


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("ours", "theirs"):
        write_pair(folder, name)
    return folder


def signed(path: Path, key: Path) -> Path:
    bundle = open_bundle(path)
    signature_path(path).write_bytes(open_signing_key(key).sign(bundle.read(MANIFEST)))
    return path


@pytest.fixture(params=["model.verdiff", "model"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, keys: Path) -> Path:
    return signed(make_bundle(tmp_path / request.param).path, keys / "ours.pem")


def test_without_a_pin_or_a_key_any_whole_bundle_opens(tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "model.verdiff").trusted == {}


def test_the_pinned_bundle_opens_and_says_so(bundle: Path) -> None:
    pin = open_bundle(bundle).manifest_sha256
    assert open_bundle(bundle, trust=Trust(pin)).trusted == {"pinned_sha256": pin}
    assert open_bundle(bundle, trust=Trust(pin.upper())).trusted == {"pinned_sha256": pin}


def test_another_bundle_than_the_pinned_one_is_refused(bundle: Path, tmp_path: Path) -> None:
    pin = open_bundle(bundle).manifest_sha256
    other = make_bundle(tmp_path / "other.verdiff", version="1.2.4")
    with pytest.raises(UntrustedBundleError) as caught:
        open_bundle(other.path, trust=Trust(pin))
    assert other.manifest_sha256 in caught.value.found and pin in caught.value.expected


@pytest.mark.parametrize("pin", ["", "abc", "0" * 63, "0" * 65, "g" * 64, "sha256:" + "0" * 57])
def test_what_is_no_whole_hash_pins_nothing(bundle: Path, pin: str) -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        open_bundle(bundle, trust=Trust(pin))


def test_a_bundle_signed_by_a_trusted_key_opens_and_names_the_key(bundle: Path, keys: Path) -> None:
    trusted = open_bundle(bundle, trust=Trust(trusted_key=keys / "ours.pub")).trusted
    assert trusted == {"signed_by": open_signing_key(keys / "ours.pem").fingerprint}


def test_any_of_several_trusted_keys_will_do(bundle: Path, keys: Path) -> None:
    both = keys / "both.pub"
    both.write_bytes((keys / "theirs.pub").read_bytes() + (keys / "ours.pub").read_bytes())
    assert open_bundle(bundle, trust=Trust(trusted_key=both)).trusted


def _changed_byte(bundle: Path, keys: Path) -> None:
    place = signature_path(bundle)
    data = bytearray(place.read_bytes())
    data[17] ^= 1
    place.write_bytes(data)


def _other_model(bundle: Path, keys: Path) -> None:
    """A whole bundle with right hashes of its own, under the name and beside the signature of the signed one."""
    write_bundle(bundle, make_manifest(intended_use="anything"), {**FILES, "NOTICE": b"another"})


def _other_manifest_order(bundle: Path, keys: Path) -> None:
    """The same values written otherwise: what is signed is the bytes."""
    folder = bundle if bundle.is_dir() else None
    text = open_bundle(bundle).read(MANIFEST)
    again = json.dumps(json.loads(text), indent=2).encode()
    if folder is not None:
        (folder / MANIFEST).write_bytes(again)
        return
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {MANIFEST: again, **FILES}.items():
            archive.writestr(name, data)


ATTACKS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no signature": (lambda bundle, keys: signature_path(bundle).unlink(), "is not signed"),
    "signed by another key": (lambda bundle, keys: signed(bundle, keys / "theirs.pem"), "signed by another key"),
    "a changed signature": (_changed_byte, "signed by another key, or changed"),
    "an empty signature": (lambda bundle, keys: signature_path(bundle).write_bytes(b""), "0 bytes"),
    "half a signature": (lambda bundle, keys: signature_path(bundle).write_bytes(b"x" * 32), "32 bytes"),
    "more than a signature": (
        lambda bundle, keys: signature_path(bundle).write_bytes(signature_path(bundle).read_bytes() + b"\n"),
        "more bytes",
    ),
    "zeros": (lambda bundle, keys: signature_path(bundle).write_bytes(bytes(64)), "signed by another key, or changed"),
    "the signature of another bundle": (_other_model, "changed after it was signed"),
    "a manifest written anew": (_other_manifest_order, "changed after it was signed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_a_signed_bundle_is_refused_by_name(bundle: Path, keys: Path, attack: str) -> None:
    change, words = ATTACKS[attack]
    change(bundle, keys)
    open_bundle(bundle)  # whole, as far as it says itself
    with pytest.raises(UntrustedBundleError, match=words):
        open_bundle(bundle, trust=Trust(trusted_key=keys / "ours.pub"))


def test_a_changed_file_of_a_signed_bundle_is_damage(tmp_path: Path, keys: Path) -> None:
    folder = signed(make_bundle(tmp_path / "model").path, keys / "ours.pem")
    (folder / "NOTICE").write_bytes(b"another")
    with pytest.raises(BundleError, match="NOTICE has SHA-256"):
        open_bundle(folder, trust=Trust(trusted_key=keys / "ours.pub"))


def test_a_manifest_that_is_not_trusted_is_not_read(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Manifest, "from_json", lambda data: pytest.fail("the manifest was read"))
    for trust in (Trust("0" * 64), Trust(trusted_key=keys / "theirs.pub")):
        with pytest.raises(UntrustedBundleError):
            open_bundle(bundle, trust=trust)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda keys: keys / "nowhere.pub", "cannot be read"),
        (lambda keys: keys, "cannot be read"),
        (lambda keys: keys / "ours.pem", "private key"),
        (lambda keys: write_other_kind(keys, "p256")[1], "another kind"),
        (lambda keys: _text(keys, b"not a key"), "no public key"),
        (lambda keys: _text(keys, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "damaged key"),
        (lambda keys: _text(keys, b"x" * (1 << 17)), "larger than any key"),
    ],
)
def test_what_is_no_public_key_trusts_nothing(
    bundle: Path, keys: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        open_bundle(bundle, trust=Trust(trusted_key=make(keys)))


def _text(folder: Path, data: bytes) -> Path:
    (folder / "made.pub").write_bytes(data)
    return folder / "made.pub"


def test_an_encrypted_key_signs_with_its_passphrase_alone(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_pair(tmp_path, "locked", passphrase="open sesame")
    for wrong in (None, "sesame"):
        with monkeypatch.context() as patch:
            patch.delenv(PASSPHRASE, raising=False)
            if wrong is not None:
                patch.setenv(PASSPHRASE, wrong)
            with pytest.raises(InputError, match=PASSPHRASE):
                open_signing_key(private)
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert open_bundle(signed(bundle, private), trust=Trust(trusted_key=public)).trusted


def test_a_key_of_another_kind_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another kind"):
        open_signing_key(write_other_kind(tmp_path, "p256")[0])


def test_without_cryptography_the_extra_is_named(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(BackendError, match=r"\[sign\]"):
        open_bundle(bundle, trust=Trust(trusted_key=keys / "ours.pub"))
    assert open_bundle(bundle, trust=Trust(open_bundle(bundle).manifest_sha256)).trusted


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_the_keys_and_verifies_the_signature(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    _openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    _openssl("pkey", "-in", private, "-pubout", "-out", public)
    bundle = signed(make_bundle(tmp_path / "model").path, private)
    assert open_bundle(bundle, trust=Trust(trusted_key=public)).trusted
    given = ("-pubin", "-inkey", public, "-rawin", "-in", bundle / MANIFEST, "-sigfile", signature_path(bundle))
    _openssl("pkeyutl", "-verify", *given)


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
