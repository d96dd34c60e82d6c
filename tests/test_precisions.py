"""The one table of precisions is whole and agrees with itself."""

from __future__ import annotations

import pytest

from verdiff.choices import BACKENDS
from verdiff.precisions import (
    ENGINE_PRECISIONS,
    REFERENCE,
    TABLE,
    Precision,
    engine_precision,
    precision_of,
    processor_precision,
)

EACH = pytest.mark.parametrize("precision", TABLE.values(), ids=TABLE)


@EACH
def test_what_runs_a_precision_is_known_and_its_forms_lead_back_to_it(precision: Precision) -> None:
    assert set(precision.backends) <= set(BACKENDS)
    assert precision_of(precision.in_engines) is precision
    for form, backends in precision.tried_on.items():
        assert precision_of(form) is precision
        assert set(backends) <= set(precision.backends)


@EACH
def test_what_is_no_reference_has_a_gate_with_limits_and_forms_that_it_judges(precision: Precision) -> None:
    reduced = precision.name != REFERENCE
    assert (precision.gate in precision.tried_on) is bool(precision.gate) is reduced
    assert (precision.limits is not None) is bool(precision.judged_as) is reduced
    # Somebody runs every form that a conversion writes.
    assert set(precision.tried_on) <= {precision.in_engines, precision.on_processors}


def test_names_are_read_as_a_precision_or_as_one_of_its_forms() -> None:
    assert [engine_precision(name) for name in ("fp32", "bf16", "int8", "int8-trt")] == [
        *("fp32", "bf16", "int8-trt", "int8-trt"),
    ]
    assert [processor_precision(name) for name in ("fp32", "bf16", "int8", "int8-ov")] == [
        *("fp32", "fp32", "int8-ov", "int8-ov"),
    ]
    assert ENGINE_PRECISIONS == ("fp32", "fp16", "bf16", "int8-trt")
    with pytest.raises(KeyError):
        precision_of("fp8")
