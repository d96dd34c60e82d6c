"""An authority of the tests' own and certificates of its, in PEM."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from verdiff.options import TlsOptions


@dataclass(frozen=True)
class Authority:
    """Signs certificates for 127.0.0.1.

    Attributes:
        folder: Where its files go.
        name: Its own.
    """

    folder: Path
    name: str = "authority"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_id", x509.SubjectKeyIdentifier.from_public_key(key.public_key()))
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        made = (
            self._certificate(self.name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .add_extension(self._id, False)  # type: ignore[attr-defined]
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
                True,
            )
        )
        self._write(self.ca, self._signed(made))

    @property
    def ca(self) -> Path:
        """Its own certificate."""
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a server or a client on this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self.folder / f"{name}.pem"
        by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._id)  # type: ignore[attr-defined]
        made = self._certificate(name, key).add_extension(here, False).add_extension(by, False)
        self._write(certificate, self._signed(made))
        private = self.folder / f"{name}.key"
        private.write_bytes(key_in_pem(key))
        return certificate, private

    def options(self, name: str) -> TlsOptions:
        """What a command is given: a certificate of its own, and this authority to trust."""
        certificate, key = self.issue(name)
        return TlsOptions(tls_cert=certificate, tls_key=key, tls_ca=self.ca)

    def client(self, name: str | None = "client") -> ssl.SSLContext:
        """How a client of the tests speaks TLS; it shows no certificate where it has no name."""
        context = ssl.create_default_context(cafile=self.ca)
        if name is not None:
            context.load_cert_chain(*self.issue(name))
        return context

    def _certificate(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())  # type: ignore[attr-defined]

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def key_in_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """A private key, with a password if there is one."""
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
