"""Checks of single values in a manifest: each returns the value in its plain form or names key, found and expected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from verdiff.errors import BundleError
from verdiff.settings import Bounds, Constraint, allows

REMEDY = "get the bundle again from where it was published, or write it again with 'verdiff export'"
MAX_DEPTH = 16

_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
    (type(None), "null"),
)


def describe(value: object) -> str:
    """A value's kind and a short form of it, in the words of JSON, for example `a text ('0.9')`."""
    kind = next((name for kinds, name in _TYPE_NAMES if isinstance(value, kinds)), f"a Python {type(value).__name__}")
    if value is None or isinstance(value, (list, tuple, Mapping)):
        return kind
    shown = repr(value)
    return f"{kind} ({shown if len(shown) <= 60 else shown[:57] + '...'})"


def wrong(key: str, value: object, expected: str) -> BundleError:
    """The error for a manifest value that is not what it must be."""
    return BundleError(f"the manifest's {key!r} is {describe(value)}", f"{key!r} as {expected}", REMEDY)


def text(key: str, value: object, pattern: str | None = None, expected: str = "a text that is not empty") -> str:
    """A text, not empty, that matches `pattern` as a whole."""
    if not isinstance(value, str) or not value.strip() or (pattern is not None and not re.fullmatch(pattern, value)):
        raise wrong(key, value, expected)
    return _unicode(key, value)


def choice(key: str, value: object, options: Iterable[str]) -> str:
    """One of a few words."""
    allowed = tuple(options)
    if not isinstance(value, str) or value not in allowed:
        raise wrong(key, value, "one of " + ", ".join(repr(option) for option in allowed))
    return value


def integer(key: str, value: object, low: int, high: int) -> int:
    """A whole number from `low` to `high`; true and false are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(key, value, f"a whole number from {low} to {high}")
    return int(value)


def number(key: str, value: object, low: float = -math.inf, expected: str = "a finite number") -> float:
    """A finite number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300 or not value >= low:
        raise wrong(key, value, expected)
    return float(value)


def within(key: str, value: object, limits: Constraint | None, kind: Any) -> Any:
    """The value of a setting that is within its limits and of its type; null where the type says so."""
    if value is None and type(None) in get_args(kind):
        return None
    if limits is None or not allows(limits, value, kind):
        counted = isinstance(limits, Bounds)
        what = "" if not counted else "a number " if "float" in str(kind) else "a whole number "
        raise wrong(key, value, f"{what}{limits}")
    return float(value) if kind is float else value  # type: ignore[arg-type]


def sequence(key: str, value: object) -> tuple[Any, ...]:
    """A list, as a tuple."""
    if not isinstance(value, (list, tuple)):
        raise wrong(key, value, "a list")
    return tuple(value)


def mapping(key: str, value: object) -> dict[str, Any]:
    """A JSON object, copied, its values reduced to plain JSON (tuples become lists, so writing and reading agree)."""
    if not isinstance(value, Mapping):
        raise wrong(key, value, "an object")
    plain = _plain(key, value, MAX_DEPTH)
    assert isinstance(plain, dict)
    return plain


def _unicode(key: str, value: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise wrong(key, value, "a text of whole Unicode characters")
    return value


def _plain(key: str, value: object, depth: int) -> Any:
    if depth == 0:
        raise wrong(key, value, f"nested at most {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise wrong(key, name, "an object with texts as keys")
        return {name: _plain(f"{key}.{name}", item, depth - 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{key}[{index}]", item, depth - 1) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        return _unicode(key, str(value))
    raise wrong(key, value, "a text, a finite number, true, false, null, a list or an object")
