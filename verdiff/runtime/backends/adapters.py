"""What a WebGPU device is here: a GPU, or a driver that computes on the processor in its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Adapter:
    """One device that WebGPU may compute on.

    Attributes:
        name: Name that its driver gives it.
        software: Whether it computes on the processor.
    """

    name: str
    software: bool


def named(adapters: tuple[Adapter, ...]) -> str:
    """The adapter's name; of several GPUs nobody says which one WebGPU takes."""
    names = list(dict.fromkeys(adapter.name for adapter in adapters))
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
