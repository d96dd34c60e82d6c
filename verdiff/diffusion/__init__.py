"""The mathematics of sampling, in numpy: schedules, the process family, sampler tables, noise, the loop, fusion."""

from verdiff.diffusion.process import Process
from verdiff.diffusion.schedules import Schedule

__all__ = ["Process", "Schedule"]
