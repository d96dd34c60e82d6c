"""What a DICOM node is told: its title, who may send, and where results go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ssl import SSLContext
from urllib.parse import urlsplit

from verdiff.choices import AE_TITLE, DICOM_NODE, DICOM_OBJECTS
from verdiff.errors import InputError

OBJECTS = DICOM_OBJECTS
SEGMENTATION, CONTOURS, UNCERTAINTY = OBJECTS
# SOP classes that are taken (PS3.4, B.5): MR and CT, classic, enhanced and converted to it; CR and DX.
IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4", "4.1", "4.4", "2", "2.1", "2.2", "1", "1.1"))
# Plain ones first: a sender that has both to choose from sends what is read fastest.
SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80"),
    *("1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.50"),
)


@dataclass(frozen=True)
class Peer:
    """A node to send to: ``TITLE@HOST:PORT``."""

    title: str
    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str, *, tls: bool = False) -> Peer:
        """The peer that a text names.

        Args:
            text: ``TITLE@HOST:PORT``.
            tls: Whether it is spoken to over TLS.

        Raises:
            InputError: It is not written as ``TITLE@HOST:PORT``.
        """
        found = re.fullmatch(DICOM_NODE, text)
        if found is None or not 0 < int(found[3]) < 65536:
            raise InputError(f"the node {text!r}", "TITLE@HOST:PORT, for example ORTHANC@127.0.0.1:4242", "correct it")
        return cls(found[1], found[2].strip("[]"), int(found[3]), tls)

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Delivery:
    """What is sent, and where to.

    Attributes:
        objects: Some of :data:`OBJECTS`.
        peer: A node that takes C-STORE, or None.
        stow: A DICOMweb service that takes STOW-RS, the address before ``/studies``, or None.
        context: Whom to trust and what to show over TLS, of :func:`verdiff.serve.tls.sending`; None trusts the
            authorities of the system and shows nothing.

    Raises:
        InputError: Nothing to send, nowhere to send it, or an address that is none.
    """

    objects: tuple[str, ...] = (SEGMENTATION, CONTOURS)
    peer: Peer | None = None
    stow: str | None = None
    context: SSLContext | None = None

    def __post_init__(self) -> None:
        if self.peer is None and self.stow is None:
            raise InputError(
                "a DICOM node that has nowhere to send its masks",
                "a node or a DICOMweb service that takes them",
                "name one: --send-to TITLE@HOST:PORT, or --stow http://HOST:PORT/dicom-web",
            )
        if not self.objects or set(self.objects) - set(OBJECTS):
            raise InputError(
                f"the objects {', '.join(self.objects) or 'none'}", f"some of {', '.join(OBJECTS)}", "correct --objects"
            )
        if self.stow is not None:
            _check_address(self.stow)


def _check_address(stow: str) -> None:
    try:
        address = urlsplit(stow)
        # A port that is no number, or beyond 65535, raises.
        usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            f"the DICOMweb address {stow!r}", "http://HOST:PORT/dicom-web or https://...", "correct --stow"
        )
    if address.username is not None or address.password is not None:
        # Not repeated: it would be in a log.
        raise InputError(
            f"a DICOMweb address with a user's name in it, of {address.hostname}",
            "an address alone: it stands in what the node says",
            "leave the name out of --stow, and let the service know this machine, or its certificate",
        )


def check_titles(own: str, allowed: tuple[str, ...]) -> None:
    """Refuse titles that are none, and a node that nobody may send to.

    Raises:
        InputError: Which one.
    """
    for title in (own, *allowed):
        if re.fullmatch(AE_TITLE, title) is None:
            raise InputError(f"the AE title {title!r}", "1 to 16 letters, digits, blanks or signs", "correct it")
    if not allowed:
        raise InputError(
            "a DICOM node to which nobody may send",
            "the AE titles of those that may",
            "name each: --allow TITLE",
        )
