"""How long and how many: what a worker may take before its supervisor steps in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one worker, in seconds where nothing else is said.

    Attributes:
        job_s: The most a job without a deadline may compute; then it is cancelled and gives the answer it has.
        late_s: How far past its deadline a job may be; then it is cancelled too. It minds the deadline itself.
        grace_s: What a worker has to end a job that was cancelled; then it is killed.
        load_s: What a worker has to load the model; then it is killed.
        pause_s: The longest pause between attempts to start a worker that does not come up; the first are shorter.
        waiting: Jobs that may wait for the worker; one more is refused.
    """

    job_s: float = 600.0
    late_s: float = 0.5
    grace_s: float = 5.0
    load_s: float = 180.0
    pause_s: float = 30.0
    waiting: int = 16
