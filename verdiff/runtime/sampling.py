"""What one call samples with: the model's defaults with the caller's choices over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from verdiff.choices import FUSIONS, SAMPLERS, SETTINGS, WHOLE
from verdiff.diffusion import STEPS_FUSIONS, Process, SamplerTable, make_table
from verdiff.errors import InputError
from verdiff.runtime.frontier import named_setting
from verdiff.runtime.policy import EVERYTHING, Policy

if TYPE_CHECKING:
    from verdiff.bundle import Manifest


@dataclass(frozen=True)
class Choices:
    """The caller's choices of :meth:`verdiff.runtime.Segmenter.segment`; None leaves the model's default.

    Attributes:
        steps: Denoiser passes a sample.
        samples: Members of the ensemble; the first n samples are the same whatever their number.
        seed: Key of the noise.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"dpmpp-2m"``.
        fusion: ``"mean"`` of the samples, ``"steps"`` for the step-uncertainty fusion, ``"steps-published"`` for it as
            in its authors' code, ``"staple"`` for STAPLE's consensus of the samples' masks (on the host alone).
        policy: What to leave out (:class:`verdiff.runtime.policy.Policy`), or ``"fast"`` for the fast setting on the
            model's record, which brings steps and samples with it.
    """

    steps: int | None = None
    samples: int | None = None
    seed: int | None = None
    sampler: str | None = None
    fusion: str | None = None
    policy: str | None = None

    @property
    def effort_is_open(self) -> bool:
        """Whether the caller left it to the model how much to compute."""
        return self.steps is None and self.samples is None and self.policy is None and self.sampler is None


@dataclass(frozen=True)
class Sampling:
    """Everything the loop needs, resolved; ``table`` is None when the prior's answer is the result.

    Attributes:
        table: One row a step, or None.
        samples: Members of the ensemble; 0 without a table.
        seed: Key of the noise.
        fusion: One of :data:`FUSIONS`.
        description: The same in plain words and numbers, for the provenance.
        policy: What is left out.
    """

    table: SamplerTable | None
    samples: int
    seed: int
    fusion: str
    description: dict[str, Any]
    policy: Policy = EVERYTHING

    @property
    def keeps_steps(self) -> bool:
        """Whether the fusion wants the x0hat of every step, not of the last alone."""
        return self.fusion in STEPS_FUSIONS


def resolve_sampling(manifest: Manifest, choices: Choices, *, denoiser: bool) -> Sampling:
    """The sampling of one call: ``choices`` over the defaults of ``manifest``.

    The manifest's own table is used as it is when the choices leave it unchanged, so the numbers are those that were
    verified at export. ``denoiser=False`` (a single-pass model, or the prior alone asked for) gives no table.

    Raises:
        InputError: A choice out of range, or a sampler or fusion that does not exist.
    """
    defaults = manifest.defaults
    if choices.policy in SETTINGS:
        setting = named_setting(manifest, str(choices.policy))
        choices = replace(
            choices,
            policy=setting.policy,
            steps=choices.steps or setting.steps,
            samples=choices.samples or setting.samples,
        )
    policy = Policy.parse(WHOLE if choices.policy is None else choices.policy)
    for name, value, least, most in (
        ("steps", choices.steps, 1, 100_000),
        ("samples", choices.samples, 1, 1000),
        ("seed", choices.seed, 0, 2**64 - 1),
    ):
        if value is not None and not least <= value <= most:
            raise InputError(f"{name} = {value}", f"{least} to {most}", f"leave {name} out for the model's default")
    fusion = _choice("fusion", choices.fusion, defaults.fusion, FUSIONS)
    sampler = _choice("sampler", choices.sampler, defaults.sampler, SAMPLERS)
    seed = defaults.seed if choices.seed is None else choices.seed
    if not denoiser:
        described = {"steps": 0, "samples": 0, "seed": seed, "sampler": None, "policy": str(policy)}
        return Sampling(None, 0, seed, fusion, described, policy)
    steps = choices.steps or defaults.steps
    samples = choices.samples or defaults.samples
    if (steps, sampler) == (defaults.steps, defaults.sampler):
        table = SamplerTable.from_dict(manifest.table)
    else:
        process = Process.from_dict(manifest.process)
        most = process.timesteps if defaults.start_step is None else defaults.start_step
        if steps > most:
            raise InputError(f"steps = {steps}", f"at most {most}, the model's timesteps", "choose fewer steps")
        table = make_table(
            process,
            sampler=sampler,  # type: ignore[arg-type]
            steps=steps,
            eta=defaults.eta if sampler == "ddim" else 0.0,
            start=defaults.start,  # type: ignore[arg-type]
            start_step=defaults.start_step,
        )
    description = {
        "steps": steps,
        "samples": samples,
        "seed": seed,
        "sampler": sampler,
        "eta": {"ddim": defaults.eta, "ddpm": 1.0}.get(sampler, 0.0),
        "start": defaults.start,
        "start_step": defaults.start_step,
        "fusion": fusion,
        "policy": str(policy),
        "timesteps": [int(t) for t in table.timesteps],
    }
    return Sampling(table, samples, seed, fusion, description, policy)


def _choice(name: str, chosen: str | None, default: str, known: tuple[str, ...]) -> str:
    value = default if chosen is None else chosen
    if value not in known:
        raise InputError(f"{name} {value!r}", f"one of {', '.join(known)}", f"choose one of them for {name}")
    return value
