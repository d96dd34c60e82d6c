"""The only host loop: a denoiser, a table and noise in, x0hat out. What runs on a device is compared with this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion.tables import SamplerTable
from verdiff.errors import VerdiffError

Array = NDArray[np.float32]

Denoiser = Callable[[Array, int], NDArray[Any]]
"""(x_t float32 [N, K, H, W], timestep) -> x0hat [N, K, H, W] on [-1, 1]; it must not keep or change x_t."""

Noise = Callable[[int], Array]
"""Standard normal noise [N, K, H, W] for a noise step: 0 is the start, row i draws i + 1 (only rows with d != 0)."""


@dataclass(frozen=True)
class StepState:
    """What is known after the denoiser has run at one row.

    ``x`` is what the denoiser saw and is valid only during the call; ``x0hat`` may be kept. Both [N, K, H, W].
    """

    row: int
    timestep: int
    x0hat: Array
    x: Array


OnStep = Callable[[StepState], bool | None]


def run_loop(
    denoise: Denoiser,
    table: SamplerTable,
    prior: Array,
    noise: Noise,
    *,
    on_step: OnStep | None = None,
    keep_steps: list[Array] | None = None,
) -> Array:
    """Sample masks: x = start[0] f + start[1] z, then x <- a x + b x0hat + c f + d z + e x0hat_previous row by row.

    Arithmetic is float32, each sum from left to right in that order, so that another host can repeat it bit for bit.

    Args:
        denoise: Called once a row.
        table: Table that :func:`verdiff.diffusion.make_table` gives.
        prior: f on [-1, 1], float32 [N, K, H, W]. N counts slices and samples together; no row of it sees another.
        noise: Where z comes from, for example :func:`verdiff.diffusion.noise.noise_source`.
        on_step: Called after the denoiser at each row; returning ``False`` ends the loop with the x0hat of that row.
        keep_steps: A list that gets the x0hat of every row run, for the ``steps`` fusion.

    Returns:
        x0hat of the last row that ran, float32 [N, K, H, W] on [-1, 1]; the caller's to keep.

    Raises:
        VerdiffError: The denoiser or the noise has another shape than the prior, or x0hat is not finite; the
            message names the step.
    """
    f = np.asarray(prior, dtype=np.float32)
    rows = table.coefficients.astype(np.float32)
    from_prior, from_noise = table.start.astype(np.float32)
    x = from_prior * f
    x += from_noise * _checked(noise(0), f.shape, "the start noise")

    previous: Array | None = None
    x0hat = f
    for row, timestep in enumerate(table.timesteps.tolist()):
        where = f"the denoiser at step {row + 1} of {len(table)} (timestep {timestep})"
        # A copy, because a backend may answer in the same buffer every time.
        x0hat = _checked(np.array(denoise(x, timestep), dtype=np.float32), f.shape, where)
        if not np.isfinite(x0hat).all():
            raise VerdiffError(
                f"{where} gave {int((~np.isfinite(x0hat)).sum())} values that are not finite",
                "x0hat in [-1, 1] everywhere",
                "check the image for extreme intensities; with a half-precision model, try float32",
            )
        if keep_steps is not None:
            keep_steps.append(x0hat)
        if on_step is not None and on_step(StepState(row, timestep, x0hat, x)) is False:
            break
        if row + 1 == len(table):
            break
        a, b, c, d, e = rows[row]
        x *= a
        x += b * x0hat
        if c != 0.0:
            x += c * f
        if d != 0.0:
            x += d * _checked(noise(row + 1), f.shape, f"the noise of step {row + 1}")
        if e != 0.0 and previous is not None:
            x += e * previous
        previous = x0hat
    return x0hat


def _checked(values: Array, shape: tuple[int, ...], what: str) -> Array:
    if values.shape != shape:
        raise VerdiffError(
            f"{what} has shape {values.shape}",
            f"{shape}, as the prior",
            "use a denoiser and a prior of the same model, and noise of their shape",
        )
    return values
