"""The sampling loop in PyTorch, for the rivals that run in it: :func:`verdiff.diffusion.run_loop` on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from verdiff.diffusion import SamplerTable


def torch_loop(
    step: Callable[..., Any],
    table: SamplerTable,
    given: Sequence[Any],
    timesteps: Sequence[Any],
    noise: Callable[[int], Any],
    *,
    stop_after: int | None = None,
    reuses_outputs: bool = False,
) -> Any:
    """x0hat [N, K, H, W] of the last row that ran; the caller turns gradients off.

    Args:
        step: (x, timestep [N], prior, *features) -> x0hat.
        table: The sampler.
        given: The prior [N, K, H, W] on [-1, 1], then the features.
        timesteps: One tensor [N] a row, where the network is.
        noise: Standard normal noise for a noise step: 0 is the start, row i draws i + 1.
        stop_after: End after so many rows; None runs them all.
        reuses_outputs: Whether ``step`` gives every answer in the same memory, as compiled networks may.
    """
    f = given[0]
    rows = table.coefficients.tolist()
    from_prior, from_noise = table.start.tolist()
    x, previous, x0hat = from_prior * f + from_noise * noise(0), f, f
    last = len(rows) if stop_after is None else min(stop_after, len(rows))
    for row, (a, b, c, d, e) in enumerate(rows[:last]):
        x0hat = step(x, timesteps[row], *given).float()
        if row + 1 < last:
            x = a * x + b * x0hat
            x = x + c * f if c else x
            x = x + d * noise(row + 1) if d else x
            x = x + e * previous if e else x
            previous = x0hat.clone() if reuses_outputs else x0hat
    return x0hat
