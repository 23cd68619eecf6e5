"""Reads the encoding of a table from JSON, checked; each error names the entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..internal import json_values
from ..internal.checks import FormatError
from .columns import KINDS, Key
from .encoding import PARTS, Encoded, Encoding, Feature
from .targets import meaning_in

__all__ = ["read_encoding"]


def read_encoding(value: Any, where: str) -> Encoding:
    """Return the encoding that `Encoding.to_json` wrote; raise FormatError if it is another value."""
    checks: dict[str, Callable[[Any, str], Any]] = {
        "columns": lambda v, w: tuple(json_values.listing(v, w, _column)),
        "named": json_values.flag,
    }
    return Encoding(**json_values.entries(value, where, checks))


def _finite(value: Any, where: str) -> float:
    return json_values.number(value, where)


def _signed(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise json_values.wrong(where, value, "a whole number")
    return value


def _feature(value: Any, where: str) -> Feature:
    checks: dict[str, Callable[[Any, str], Any]] = {
        "part": json_values.text,
        "exponent": _signed,
        "centre": _finite,
        "scale": _finite,
        "edges": lambda v, w: tuple(json_values.listing(v, w, _finite)),
        "missing": json_values.flag,
    }
    made = Feature(**json_values.entries(value, where, checks))
    if made.part and made.part not in PARTS:
        raise json_values.wrong(f"{where}.part", made.part, f"one of {', '.join(PARTS)}")
    if abs(made.exponent) > 2000 or any(low >= high for low, high in zip(made.edges, made.edges[1:], strict=False)):
        raise FormatError(f"{where}: got an impossible exponent, or edges that do not ascend")
    return made


def _category(value: Any, where: str) -> Key:
    if not isinstance(value, (str, int, float)):
        raise json_values.wrong(where, value, "text, a number, true or false")
    return value


def _column(value: Any, where: str) -> Encoded:
    checks: dict[str, Callable[[Any, str], Any]] = {
        "name": json_values.text,
        "kind": json_values.text,
        "features": lambda v, w: tuple(json_values.listing(v, w, _feature)),
        "meaning": meaning_in,
        "offset": _signed,
        "keys": lambda v, w: tuple(json_values.listing(v, w, _category)),
        "rare": json_values.flag,
        "missing": json_values.flag,
        "text": json_values.flag,
        "numbers": json_values.flag,
    }
    assert list(checks) == [each.name for each in fields(Encoded)]
    given = {"meaning": ""} | json_values.mapping(value, where)
    made = Encoded(**json_values.entries(given, where, checks))
    if made.kind not in KINDS or any((made.kind == "date") != bool(each.part) for each in made.features):
        raise json_values.wrong(f"{where}.kind", made.kind, f"one of {', '.join(KINDS)} that fits its features")
    return made
