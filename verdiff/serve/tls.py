"""TLS for the servers and for what they send: contexts of the standard library from files in PEM.

TLS 1.2 is the oldest that is spoken, as in DICOM's BCP 195 profiles (PS3.15, annex B).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NoReturn

from verdiff.errors import InputError
from verdiff.options import TlsOptions

_TICK_S = 0.1


def serving(options: TlsOptions) -> ssl.SSLContext | None:
    """How servers speak TLS, and whom they let in.

    None where no certificate was given: they speak plain then, and let everybody in, whatever authorities are named.

    Raises:
        InputError: A file is missing or not what it should be, or there is a key without its certificate.
    """
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise InputError(
                "--tls-key without --tls-cert", "a key and the certificate that it belongs to", "give both"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _show(context, options.tls_cert, options.tls_key)
    if options.tls_ca is not None:
        _trust(context, options.tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def sending(options: TlsOptions) -> ssl.SSLContext:
    """How destinations are spoken to: their certificates and names are checked, and the own certificate is shown.

    Raises:
        InputError: A file is missing or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.tls_ca is None:
        context.load_default_certs()
    else:
        _trust(context, options.tls_ca)
    if options.tls_cert is not None:
        _show(context, options.tls_cert, options.tls_key)
    return context


@dataclass(frozen=True)
class Deferred:
    """Wraps what a server accepts without a handshake: a silent client must not keep the next one waiting.

    Attributes:
        context: TLS context that :func:`serving` gives.
    """

    context: ssl.SSLContext

    def wrap_socket(self, accepted: socket.socket, server_side: bool = True) -> ssl.SSLSocket:
        """The socket over TLS; nothing was said yet."""
        return self.context.wrap_socket(accepted, server_side=server_side, do_handshake_on_connect=False)


def shake_hands(connection: socket.socket, seconds: float, closing: Callable[[], bool]) -> None:
    """The handshake of a socket of :class:`Deferred`; nothing on a plain one.

    Args:
        connection: The socket.
        seconds: The longest that it may take.
        closing: Asked all the while; yes gives it up.

    Raises:
        OSError: It failed, took longer, or was given up.
    """
    end = monotonic() + seconds
    while isinstance(connection, ssl.SSLSocket):
        connection.settimeout(_TICK_S)
        try:
            return connection.do_handshake()
        except TimeoutError:
            if closing() or monotonic() > end:
                raise


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def locked() -> NoReturn:
        # The standard library would ask at a terminal that a service has not.
        raise InputError(
            f"{key or certificate}, a private key with a password",
            "a private key in PEM without one, in a file that only the service can read",
            "take the password off: openssl pkey -in KEY -out SERVICE_KEY",
        )

    try:
        context.load_cert_chain(certificate, key, locked)
    except OSError as error:
        raise InputError(
            f"{certificate}{f' and {key}' if key else ''} ({_why(error)})",
            "a certificate with its chain and the private key that belongs to it, in PEM",
            "correct --tls-cert and --tls-key",
        ) from error


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise InputError(
            f"{authority} ({_why(error)})", "certificates of authorities in PEM", "correct --tls-ca"
        ) from error


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
