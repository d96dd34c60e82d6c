"""The mathematics of sampling, in numpy: schedules, the process family, sampler tables, noise, the loop, fusion."""

from verdiff.diffusion.fusion import (
    FUSIONS,
    STEPS_FUSIONS,
    Fused,
    background_and_labels,
    entropy_uncertainty,
    fuse,
    fuse_mean,
    fuse_steps,
    fused_rows,
)
from verdiff.diffusion.loop import StepState, run_loop
from verdiff.diffusion.noise import noise_source, philox_normal
from verdiff.diffusion.process import Process
from verdiff.diffusion.schedules import Schedule
from verdiff.diffusion.tables import SamplerTable, make_table

__all__ = [
    "FUSIONS",
    "STEPS_FUSIONS",
    "Fused",
    "Process",
    "SamplerTable",
    "Schedule",
    "StepState",
    "background_and_labels",
    "entropy_uncertainty",
    "fuse",
    "fuse_mean",
    "fuse_steps",
    "fused_rows",
    "make_table",
    "noise_source",
    "philox_normal",
    "run_loop",
]
