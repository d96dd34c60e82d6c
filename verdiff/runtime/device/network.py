"""The two networks of a model on a device, as the loop sees them: work put on a stream, at addresses it is given.

``prior`` reads ``image`` and writes ``prior`` and the features. ``step`` is the denoiser with the sampler's update in
it: it reads ``x``, ``timestep``, ``prior``, the features, ``row``, ``noise`` and ``previous``, and writes ``x_next``
and ``x0hat``. All maps are float32 except the features, which have the type the engines have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from verdiff.runtime.device.driver import Pointer, Stream
from verdiff.runtime.device.layout import DeviceFeature


@dataclass(frozen=True)
class CallShape:
    """What a network is given: ``batch`` slices (or pairs of slice and sample) of ``rows`` x ``cols`` pixels."""

    batch: int
    rows: int
    cols: int


class Network(Protocol):
    """One network at one shape."""

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Stream) -> None:
        """Put one run on ``stream``, capturing where networks are ``capturable``; each input and output has an address.

        Raises:
            BackendError: It was refused.
        """
        ...

    def close(self) -> None:
        """Give back what this network holds of the device."""
        ...


class Networks(Protocol):
    """A model's engines, loaded once.

    Attributes:
        name: Name of the backend, such as ``"tensorrt"``.
        version: Version of its library.
        precision: What the networks compute in.
        features: The condition features, with the type they have on the device.
        roles: ``("prior", "step")``, or ``("prior",)`` for a model without a denoiser.
        sizes: Rows and columns of the slices that memory is taken for when the model is loaded.
        capturable: Whether a run may be captured; not where the library replays graphs of its own.
    """

    name: str
    version: str
    precision: str
    features: tuple[DeviceFeature, ...]
    roles: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    capturable: bool

    def batches(self, rows: int, cols: int) -> tuple[int, int]:
        """The batch the engines are fastest with at this size, and the largest they take.

        Raises:
            BackendError: No profile holds slices of this size; the message has the command that builds one.
        """
        ...

    def activations(self, shape: CallShape) -> int:
        """Bytes the networks work in at this shape, the larger of the two: they never run at once."""
        ...

    def open(self, role: str, shape: CallShape, memory: tuple[Pointer, int], stream: Stream) -> Network:
        """A network made ready for one shape, working in ``memory`` (address and size); ``stream`` may be used."""
        ...

    def close(self) -> None:
        """Give back the engines."""
        ...
