"""Promise: docs/chapter.md has a row for every slide that states something; each call in it exists and takes the
arguments shown, each picture is drawn, and each departure is explained."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import gdcore as gd
import pytest
from gdcore import analysis, experiments
from gdcore.chapter.gallery import PICTURES
from gdcore.chapter.reproductions import REPRODUCTIONS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "chapter.md").read_text(encoding="utf-8")
SLIDES, INTRODUCTIONS = 56, {1, 11, 21, 32, 33, 41, 47}
OWNERS = {"gd": gd, "analysis": analysis, "experiments": experiments}
OWNERS |= {"model": gd.Sequential, "trainer": gd.Trainer, "history": gd.History}


def rows(columns: int) -> list[list[str]]:
    """Return the cells of all table rows with so many columns, without headings."""
    lines = [line for line in TEXT.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if len(row) == columns and re.match(r"D?\d", row[0])]


SLIDE_ROWS = {int(row[0]): row for row in rows(4)}
DEPARTURES = {row[0]: row for row in rows(5)}
CALLS = [(slide, call) for slide, row in SLIDE_ROWS.items() for call in re.findall(r"`([^`]+)`", row[2])]


def test_every_slide_has_a_row() -> None:
    assert [int(row[0]) for row in rows(4)] == sorted(set(range(1, SLIDES + 1)) - INTRODUCTIONS)
    (named,) = re.findall(r"The slides ([\d, and]+?) introduce", TEXT)
    assert {int(n) for n in re.findall(r"\d+", named)} == INTRODUCTIONS
    for row in SLIDE_ROWS.values():
        assert len(row[1]) > 20 and row[2].startswith("`") and row[3].startswith("`")


def resolved(dotted: str) -> Any:
    owner, *names = dotted.split(".")
    found: Any = OWNERS[owner]
    for name in names:
        found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
    return found


@pytest.mark.parametrize(("slide", "call"), CALLS)
def test_the_call_exists(slide: int, call: str) -> None:
    dotted, _, arguments = call.partition("(")
    found = resolved(dotted)
    if not arguments:
        return
    keywords = re.findall(r"(\w+)=", arguments)
    positional = [part for part in arguments.rstrip(")").split(", ") if part.isidentifier()]
    parameters = inspect.signature(found).parameters
    taken = [name for name in parameters if name != "self"]
    extra = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert extra or set(keywords) <= set(taken), f"slide {slide}: {call}"
    assert positional == taken[: len(positional)], f"slide {slide}: {call}"


def test_every_picture_is_drawn() -> None:
    """By the gallery, by a reproduction, or it is an example; and every picture of the gallery has a row."""
    seen: set[str] = set()
    for slide, row in SLIDE_ROWS.items():
        for name in re.findall(r"`([^`]+)`", row[3]):
            seen.add(name)
            example = name.startswith("examples/") and (ROOT / name).is_file()
            assert example or name in PICTURES or name in REPRODUCTIONS, f"slide {slide}: {name}"
    assert set(PICTURES) <= seen, f"no row names {set(PICTURES) - seen}"


def test_every_departure_is_explained() -> None:
    referred = {name for row in SLIDE_ROWS.values() for name in re.findall(r"\bD\d+\b", row[1])}
    assert referred == set(DEPARTURES) == {f"D{i}" for i in range(1, len(DEPARTURES) + 1)}
    for name, row in DEPARTURES.items():
        assert all(len(cell) > 1 for cell in row), name
        slides = {slide for slide, other in SLIDE_ROWS.items() if re.search(rf"\b{name}\b", other[1])}
        first, last = min(slides), max(slides)
        numbers = [int(number) for number in re.findall(r"\d+", row[1])]
        assert min(numbers) == first and max(numbers) == last, f"{name} names the slides {row[1]}, its rows {slides}"
