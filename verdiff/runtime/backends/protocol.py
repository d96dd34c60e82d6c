"""What a backend of the host is: the two networks of a bundle, called many times; and the graphs it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.precisions import TABLE, processor_precision

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

Maps = NDArray[np.float32]


class Described(Protocol):
    """What runs networks, as it is named in messages and in the provenance.

    Attributes:
        name: ``"onnxruntime"``, ``"openvino"``, ``"tensorrt"``, ``"tensorrt-rtx"`` or ``"webgpu"``.
        version: Version of the runtime library.
        device: ``"cpu"``, ``"cuda:N"``, ``"webgpu"`` or ``"webgpu:software"``.
        precision: What the networks compute in: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``.
        threads: CPU threads of one network call; 0 on a device.
        batch: Images of a network call.
    """

    name: str
    version: str
    device: str
    precision: str
    threads: int
    batch: int


class Backend(Described, Protocol):
    """The two networks of one bundle on one device, loaded once and called many times.

    ``batch`` is the same for every call, so that the bits of a mask cannot depend on how the work was split.

    Attributes:
        lanes: How many calls :attr:`lane` takes at once.
    """

    lanes: int

    @property
    def lane(self) -> Backend:
        """The same networks for calls from :attr:`lanes` threads at once, each on its share of :attr:`threads`.

        It gives the same bits; with one lane it is this backend itself.
        """
        ...

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        """``image`` [N, 1, H, W] -> prior [N, K, H, W] in [-1, 1] and the features of every stride."""
        ...

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        """``x`` [N, K, H, W] at ``timestep`` -> x0hat [N, K, H, W]."""
        ...


@runtime_checkable
class OnAdapter(Protocol):
    """A backend whose device has a name of its own, which its caller did not give.

    Attributes:
        adapter: Name of the GPU.
    """

    adapter: str


@runtime_checkable
class CompilesSizes(Protocol):
    """A backend that first compiles its networks for every size of slice that is new to it."""

    def waits_s(self, rows: int, cols: int, *, denoiser: bool) -> float:
        """Seconds of it before the prior, or with ``denoiser`` both networks, can take slices of a size."""
        ...


def graph_bytes(bundle: Bundle, role: str, precision: str) -> bytes:
    """The graph of ``role`` that computes in ``precision`` on a processor, hash verified.

    Raises:
        BackendError: The bundle does not carry that precision.
    """
    stored = processor_precision(precision)
    carried = tuple(bundle.precisions(role))
    if stored not in carried:
        # By the name that a caller gives a form, the first where processors run one for two.
        names = {each.on_processors: name for name, each in reversed(TABLE.items())}
        named = [names[form] for form in carried if form in names]
        raise BackendError(
            f"{bundle.manifest.model_id} {bundle.manifest.version} has no {role} graph in {stored}",
            f"one of {', '.join(named) or 'none'}",
            "choose one of these precisions, or export the bundle with this one",
        )
    return bundle.graph(role, stored)
