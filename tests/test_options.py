"""An option is listed once: one more field of a record is an option, a keyword, a check, JSON and a word."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.bundle.factory import make_defaults, make_manifest
from verdiff.batch.asked import repeating_command
from verdiff.bundle import Defaults
from verdiff.choices import FUSIONS, SAMPLERS
from verdiff.commands.options import takes_options
from verdiff.errors import USAGE, BundleError, DataError, InputError
from verdiff.keywords import Keywords
from verdiff.limits import Completion, IgtlLimits, Limits, NodeLimits
from verdiff.options import BuildOptions, CallOptions, InferOptions, LoadOptions, SampleOptions, SessionOptions
from verdiff.runtime import Segmenter
from verdiff.settings import Bounds, OneOf, about, check_options, option, options_of, plain, types_of, words_of
from verdiff.train.config import SamplingConfig

SERVERS = (Limits, IgtlLimits, NodeLimits, Completion)
RECORDS = (LoadOptions, BuildOptions, SampleOptions, SessionOptions, CallOptions, *SERVERS)


@dataclass(frozen=True, kw_only=True)
class MoreOptions(SampleOptions):
    """The options of sampling and two more, a line each."""

    temperature: float = option(1.0, "Spread of the noise.", Bounds(0, 2))
    start: str = option("noise", "Where the loop begins.", OneOf(("noise", "prior")))


@takes_options
def command(scan: str, *, sample: MoreOptions) -> None:
    """Segment a scan."""
    print(json.dumps(plain(sample)))


def run(*arguments: str) -> Any:
    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    program.command()(command)
    return CliRunner().invoke(program, ["scan.nii", *arguments])


class Model:
    """Takes the options as keywords."""

    @Keywords(MoreOptions)
    def segment(self, scan: str, options: MoreOptions) -> tuple[str, MoreOptions]:
        """Segment one scan."""
        check_options(options, InputError)
        return scan, options


def test_one_more_field_is_an_option_of_the_command() -> None:
    result = run("--temperature", "0.5", "--start", "prior", "--steps", "3")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == plain(MoreOptions(temperature=0.5, start="prior", steps=3))
    shown = run("--help").stdout
    assert "--temperature" in shown and "Spread of the noise." in shown and "[noise|prior]" in shown


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(("--temperature", "3"), "2"), (("--start", "middle"), "noise, prior"), (("--sampler", "euler"), "ddim, ddpm")],
)
def test_one_more_field_is_checked_while_the_command_line_is_parsed(wrong: tuple[str, ...], named: str) -> None:
    result = run(*wrong)
    assert result.exit_code == USAGE and named in result.stderr


def test_one_more_field_is_a_keyword_that_help_shows() -> None:
    scan, options = Model().segment("scan", temperature=0.5, steps=3)
    assert (scan, options) == ("scan", MoreOptions(temperature=0.5, steps=3))
    assert "temperature" in inspect.signature(Model.segment).parameters
    assert "temperature (float): Spread of the noise. Allowed: from 0 to 2." in (Model.segment.__doc__ or "")
    with pytest.raises(TypeError, match="stepz"):
        Model().segment("scan", stepz=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("wrong", [{"temperature": 2.5}, {"temperature": float("nan")}, {"start": "middle"}])
def test_one_more_field_is_checked_where_it_is_a_keyword(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"(?s){next(iter(wrong))} = .*(from 0 to 2|one of noise, prior)"):
        Model().segment("scan", **wrong)


def test_one_more_field_is_in_the_json_and_in_the_words_that_repeat_a_run() -> None:
    options = MoreOptions(temperature=0.5, seed=7)
    assert json.loads(json.dumps(plain(options)))["temperature"] == 0.5
    assert words_of(options) == ["--seed", "7", "--temperature", "0.5"]
    assert json.loads(run(*words_of(options)).stdout) == plain(options)
    assert words_of(MoreOptions()) == []


@pytest.mark.parametrize("record", RECORDS)
def test_every_option_says_what_it_is_and_its_default_is_within_its_limits(record: type) -> None:
    check_options(record(), InputError)
    assert [each.name for each in fields(record) if not about(each).help.endswith(".")] == []


@pytest.mark.parametrize(
    ("method", "record"),
    [("load", LoadOptions), ("segment", CallOptions), ("stream", CallOptions), ("on_device", SessionOptions)],
)
def test_the_keywords_of_a_segmenter_are_the_fields_of_its_records(method: str, record: type) -> None:
    named = inspect.signature(getattr(Segmenter, method)).parameters
    assert {each.name for each in fields(record)} <= set(named)
    assert all(each.name in getattr(Segmenter, method).__doc__ for each in fields(record))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"steps": 0}, "from 1 to 100000"),
        ({"steps": 2.5}, "from 1 to 100000"),
        ({"samples": True}, "from 1 to 1000"),
        ({"seed": 2**64}, "from 0 to 18446744073709551615"),
        ({"sampler": "euler"}, f"one of {', '.join(SAMPLERS)}"),
        ({"fusion": "median"}, f"one of {', '.join(FUSIONS)}"),
        ({"policy": "skip+"}, "locate, skip, agree joined by '\\+'"),
        ({"policy": ""}, "one of whole, fast"),
    ],
)
def test_what_is_outside_its_limits_is_named_with_what_is_expected(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=f"(?s){next(iter(wrong))} = .*{expected}"):
        check_options(SampleOptions(**wrong), InputError)


@pytest.mark.parametrize("record", SERVERS)
def test_a_limit_of_a_server_that_lets_nothing_through_is_refused(record: Any) -> None:
    for each in fields(record):
        with pytest.raises(InputError, match=rf"(?s){each.name} = 0.*(above 0|1 or more|from 1 to 16384)"):
            record(**{each.name: 0})


def test_the_command_that_repeats_a_run_is_parsed_to_the_same_options() -> None:
    options = InferOptions(model="a/b.verdiff", steps=2, prior_only=True, policy="skip+agree", budget_ms=1500.0)
    words = repeating_command(Path("/home/me/my scan.nii.gz"), options)
    assert words == (
        "verdiff infer 'my scan.nii.gz' --model b.verdiff --steps 2 --policy skip+agree --prior-only --budget-ms 1500"
    )


def test_an_option_of_two_records_is_one_of_each_parent() -> None:
    names = [each.name for each in options_of(InferOptions)]
    assert len(names) == len(set(names))
    assert set(names) == {each.name for kind in (LoadOptions, CallOptions) for each in options_of(kind)}


@dataclass(frozen=True, kw_only=True)
class MoreDefaults(Defaults):
    """A model's defaults with an option that came after the first bundles, and may be left open."""

    temperature: float | None = option(None, "Spread of the noise.", Bounds(0, 2))


@dataclass(frozen=True, kw_only=True)
class MoreSampling(SamplingConfig):
    """The settings of a training's sampling and one more."""

    temperature: float = option(None, "Spread of the noise.", Bounds(0, 2), model=1.0)


def test_what_a_call_may_leave_open_a_model_has() -> None:
    assert [types_of(kind)["steps"] for kind in (SampleOptions, Defaults)] == [int | None, int]
    assert inspect.signature(Segmenter.segment).parameters["steps"].annotation == int | None


def test_one_more_option_leaves_the_manifests_of_older_models_as_they_are() -> None:
    older = asdict(make_defaults(2, 1))
    assert make_manifest(defaults=MoreDefaults(**older)).to_json() == make_manifest().to_json()
    stated = json.loads(make_manifest(defaults=MoreDefaults(**older, temperature=0.5)).to_json())
    assert stated["defaults"] == {**older, "temperature": 0.5}
    with pytest.raises(BundleError, match=r"defaults\.temperature"):
        MoreDefaults(**older, temperature=3)


def test_one_more_option_is_a_setting_of_a_training_with_a_default() -> None:
    assert MoreSampling(steps=2).temperature == 1.0
    with pytest.raises(DataError, match=r"(?s)temperature = 3.*from 0 to 2"):
        MoreSampling(temperature=3)
