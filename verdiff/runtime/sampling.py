"""What one call samples with: the model's defaults with the caller's options over them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from verdiff.bundle.objects import stated
from verdiff.choices import SETTINGS, WHOLE
from verdiff.diffusion import STEPS_FUSIONS, SamplerTable, make_table
from verdiff.errors import InputError
from verdiff.options import SampleOptions
from verdiff.runtime.frontier import named_setting
from verdiff.runtime.policy import EVERYTHING, Policy
from verdiff.settings import check_options, part_of, plain

if TYPE_CHECKING:
    from verdiff.bundle import Defaults, Manifest


@dataclass(frozen=True)
class Sampling:
    """Everything the loop needs, resolved; ``table`` is None when the prior's answer is the result.

    Attributes:
        table: One row a step, or None.
        samples: Members of the ensemble; 0 without a table.
        seed: Key of the noise.
        fusion: One of :data:`verdiff.choices.FUSIONS`.
        description: The sampling in plain words and numbers, for the provenance.
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


def resolve_sampling(manifest: Manifest, options: SampleOptions, *, denoiser: bool) -> Sampling:
    """The sampling of one call: ``options`` over the defaults of ``manifest``.

    The manifest's own table is used as it is when the options leave it unchanged, so the numbers are those that were
    verified at export. ``denoiser=False`` (a single-pass model, or the prior alone asked for) gives no table; neither
    does a policy that names a setting without steps.

    Raises:
        InputError: An option out of range, or a sampler or fusion that does not exist.
    """
    check_options(options, InputError, only=SampleOptions)
    defaults = manifest.defaults
    chosen = _with_setting(manifest, options)
    denoiser = denoiser and chosen.steps != 0
    chosen = _with_defaults(chosen, defaults)
    policy = Policy.parse(str(chosen.policy))
    chosen = replace(chosen, policy=str(policy))
    if not denoiser:
        described = _described(replace(chosen, steps=0, samples=0, sampler=None, fusion=None))
        return Sampling(None, 0, _number(chosen.seed), str(chosen.fusion), described, policy)
    if (chosen.steps, chosen.sampler) == (defaults.steps, defaults.sampler):
        table = stated(manifest.table, "table")
    else:
        table = _other_table(manifest, chosen)
    described = {
        **_described(chosen),
        "eta": {"ddim": defaults.eta, "ddpm": 1.0}.get(str(chosen.sampler), 0.0),
        "start": defaults.start,
        "start_step": defaults.start_step,
        "timesteps": [int(t) for t in table.timesteps],
    }
    return Sampling(table, _number(chosen.samples), _number(chosen.seed), str(chosen.fusion), described, policy)


def _with_setting(manifest: Manifest, options: SampleOptions) -> SampleOptions:
    """A policy that names a setting of the model's frontier stands for its steps, samples and policy.

    0 steps are the prior's answer. Where the setting has them and a caller names steps or samples, the other is the
    model's default.
    """
    if options.policy not in SETTINGS:
        return options
    setting = named_setting(manifest, str(options.policy))
    if not setting.steps and (options.steps or options.samples):
        return replace(options, policy=setting.policy)
    return replace(
        options,
        policy=setting.policy,
        steps=options.steps or setting.steps,
        samples=options.samples or setting.samples,
    )


def _with_defaults(options: SampleOptions, defaults: Defaults) -> SampleOptions:
    """What was left open, as the model has it; without a policy everything is computed."""
    there = {"policy": WHOLE, **asdict(defaults)}
    still_open = [each.name for each in fields(SampleOptions) if getattr(options, each.name) is None]
    return replace(options, **{name: there[name] for name in still_open if name in there})


def _other_table(manifest: Manifest, chosen: SampleOptions) -> SamplerTable:
    """The table of another number of steps or another sampler than the model's own."""
    process, defaults = stated(manifest.process, "process"), manifest.defaults
    steps, most = _number(chosen.steps), defaults.start_step or process.timesteps
    if steps > most:
        raise InputError(f"steps = {steps}", f"at most {most}, the model's timesteps", "choose fewer steps")
    return make_table(
        process,
        sampler=chosen.sampler,  # type: ignore[arg-type]
        steps=steps,
        eta=defaults.eta if chosen.sampler == "ddim" else 0.0,
        start=defaults.start,  # type: ignore[arg-type]
        start_step=defaults.start_step,
    )


def _described(chosen: SampleOptions) -> dict[str, Any]:
    """The options of the sampling alone: those of a call are not the mask's."""
    return plain(SampleOptions(**part_of(chosen, SampleOptions)))


def _number(value: int | None) -> int:
    assert value is not None, "the model's defaults have one"
    return value
