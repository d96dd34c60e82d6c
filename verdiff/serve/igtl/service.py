"""What every connection of an OpenIGTLink server shares, and what it says of a mask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verdiff import __version__
from verdiff.errors import ServiceError, VerdiffError
from verdiff.limits import IgtlLimits
from verdiff.serve.client import Client
from verdiff.serve.igtl.codes import Code, Refused, code_of
from verdiff.serve.job import Reply

_STATES = {
    "ready": Code.OK,
    "busy": Code.BUSY,
    "loading": Code.NOT_READY,
    "failed": Code.HARDWARE_FAILURE,
    "closed": Code.SHUT_DOWN,
}


@dataclass(frozen=True)
class Service:
    """A worker and how its masks are served.

    Attributes:
        client: The worker.
        limits: Limits of each connection.
        options: Options of each job, as :meth:`verdiff.serve.Client.submit` takes them.
        deadline_ms: Deadline of each job, until a client sets its own.
        surfaces: Whether surfaces are sent after the last mask, until a client says otherwise.
        suffix: Put behind the device name of a scan to name its mask, for hosts that keep one image a name.
    """

    client: Client
    limits: IgtlLimits = field(default_factory=IgtlLimits)
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline_ms: float | None = None
    surfaces: bool = False
    suffix: str = ""

    @property
    def state(self) -> tuple[Code, str]:
        """How the worker is, as a code and a word."""
        return _STATES[self.client.state], self.client.state

    @property
    def model(self) -> str:
        """The model in a line: id, version and hash."""
        model = self.client.model
        return f"{model['id']} {model['version']} sha256 {model['manifest_sha256']}"

    def mask_name(self, device: bytes) -> bytes:
        """The device name of the mask of an image, in 20 bytes."""
        suffix = self.suffix.encode()
        return device[: 20 - len(suffix)] + suffix

    def check_name(self, device: bytes, named: dict[bytes, bytes]) -> None:
        """Take an image's device name, whose mask must not have the name of another image's.

        Args:
            device: The name.
            named: The device of every mask's name of this connection so far; it gains this one.

        Raises:
            Refused: A host that keeps one image a name would show this scan's mask as the other's.
        """
        name = self.mask_name(device)
        if (other := named.setdefault(name, device)) != device:
            first, second, both = (each.decode(errors="replace") for each in (other, device, name))
            raise Refused(
                Code.CONFIG_ERROR,
                f"images {first} and {second}, whose masks would both be called {both}",
                f"device names that differ in their first {20 - len(self.suffix.encode())} bytes",
                "rename one of them, or shorten --suffix",
            )

    def code_of(self, error: VerdiffError) -> Code:
        """The status code of an error of a job, which for a worker depends on how it is."""
        if isinstance(error, ServiceError) and self.client.state in ("closed", "failed"):
            return self.state[0]
        return code_of(error)

    def metadata(self, reply: Reply) -> dict[str, str]:
        """What goes with a mask in version 2."""
        model = self.client.model
        return {
            "job": reply.job,
            "outcome": reply.outcome,
            "model": model["id"],
            "model_version": model["version"],
            "model_sha256": model["manifest_sha256"],
            "labels": json.dumps(dict(reply.label_ids)),
            "volumes_ml": json.dumps({name: round(value, 4) for name, value in reply.volumes_ml.items()}),
            "warnings": json.dumps(_warnings(reply)),
            "verdiff": __version__,
        }

    def last_words(self, reply: Reply) -> tuple[str, str]:
        """What a STATUS says when a job is done: a name and a text."""
        parts = [f"job {reply.job}: {reply.outcome}", self.model]
        if reply.empty:
            parts.append("empty mask: no structure was found")
        parts += [f"warning: {text}" for text in _warnings(reply)]
        return ("empty" if reply.empty else reply.outcome), "; ".join(parts)

    def info(self, **more: Any) -> dict[str, Any]:
        """For clients that ask: the model, the worker's state, the limits, and what the connection adds."""
        return {
            "verdiff": __version__,
            "model": {name: value for name, value in self.client.model.items() if name != "files"},
            "state": self.client.state,
            "largest_body_mb": self.limits.body_mb,
            "intended_use": "research; not a medical device",
            **more,
        }


def _warnings(reply: Reply) -> list[str]:
    return [each["text"] for each in reply.provenance.get("warnings", ())]
