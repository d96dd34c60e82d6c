"""One table of a configuration: built from plain values, their types checked, and numbers against their limits.

The limits stand beside each number, so whoever builds the table, from a file or in Python, is told the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from verdiff.errors import DataError


@dataclass(frozen=True)
class Bounds:
    """From ``least`` to ``most``, both allowed; ``above`` leaves out ``least`` itself."""

    least: float
    most: float = math.inf
    above: bool = False

    def allow(self, value: float) -> bool:
        """Whether a number lies within; infinity and NaN never do."""
        enough = value > self.least if self.above else value >= self.least
        return math.isfinite(value) and enough and value <= self.most

    def __str__(self) -> str:
        if self.most < math.inf:
            return f"{'above' if self.above else 'from'} {self.least:g} to {self.most:g}"
        return f"above {self.least:g}" if self.above else f"{self.least:g} or more"


COUNT = Bounds(1)


def bounded(default: Any, least: float, most: float = math.inf, *, above: bool = False) -> Any:
    """A field of a configuration's table with limits; of a tuple they hold for each element, and ``None`` has none."""
    return field(default=default, metadata={"bounds": Bounds(least, most, above)})


def check_bounds(kind: type, values: Mapping[str, Any], name: str, *, numbers: Bounds | None = None) -> None:
    """Refuse a number outside its limits.

    Args:
        kind: A dataclass with :func:`bounded` fields.
        values: Of its fields; those that are left out have their defaults.
        name: What a message calls the table, such as ``[training]``.
        numbers: Limits of the whole numbers that state none, whose tuples then have to hold something.

    Raises:
        DataError: One is; the message has its key.
    """
    for each in fields(kind):
        if each.name not in values:
            continue
        value = values[each.name]
        limits: Bounds | None = each.metadata.get("bounds")
        if limits is None and all(type(number) is int for number in _numbers(value)):
            limits = numbers
        if limits is None:
            continue
        empty = isinstance(value, tuple) and not value and numbers is not None
        if empty or not all(limits.allow(number) for number in _numbers(value)):
            shown = list(value) if isinstance(value, tuple) else value
            raise DataError(f"{each.name} = {shown}", _expected(limits, value), f"correct {name}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for element in value:
            yield from _numbers(element)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _expected(limits: Bounds, value: Any) -> str:
    return f"one or several numbers, each {limits}" if isinstance(value, tuple) else f"a number, {limits}"


def table_of(cls: type, values: dict[str, Any], origin: str, *, numbers: Bounds | None = None) -> Any:
    """One table of a file as its dataclass; lists become tuples. ``numbers`` as for :func:`check_bounds`.

    Raises:
        DataError: An unknown key, or a value of the wrong type or outside its limits.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    for key, value in values.items():
        if key not in names:
            raise DataError(f"{origin} has the key {key!r}", f"one of {', '.join(names)}", "correct its spelling")
        hint = str(hints[key])
        if isinstance(value, list | tuple):
            values[key] = tuple(value)
            right = "tuple" in hint and all(_is_number(element, hint) for element in value)
        elif isinstance(value, bool):
            right = "bool" in hint
        elif isinstance(value, int | float):
            right = "tuple" not in hint and _is_number(value, hint)
        elif value is None:
            right = "None" in hint
        else:
            right = "str" in hint
        if not right:
            raise DataError(f"{origin} {key} = {value!r}", f"a value of type {hint}", "correct the value")
    if numbers is not None:
        # A network's own check divides by its sizes.
        check_bounds(cls, values, origin, numbers=numbers)
    return cls(**values)


def _is_number(value: object, hint: str) -> bool:
    """Whether a value is a number of the kind that a hint names; whole ones will do for ``float``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return (whole and ("int" in hint or "float" in hint)) or (isinstance(value, float) and "float" in hint)
