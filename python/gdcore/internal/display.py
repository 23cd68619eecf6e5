"""What notebooks show: tables and text as HTML, without colours, so that it can be read on light and dark pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Aligned", "Shown", "Text", "paragraph", "table"]

SCROLLED = "max-height: 32em; overflow: auto"
RULE = "border-bottom: 1px solid rgba(128, 128, 128, 0.6)"


def table(rows: Iterable[Sequence[str]], *, left: Collection[int] = ()) -> str:
    """Return rows of text, the first of them the header, as an HTML table that scrolls if it is large.

    Columns are aligned to the right, those of the numbers `left` to the left.
    """
    from html import escape  # here, to keep `import gdcore` fast

    def line(kind: str, cells: Sequence[str]) -> str:
        heads = (f'<{kind} style="text-align: left">' if i in left else f"<{kind}>" for i in range(len(cells)))
        return "".join(f"{head}{escape(cell)}</{kind}>" for head, cell in zip(heads, cells, strict=True))

    first, *others = rows
    lines = "\n".join(f"<tr>{line('td', cells)}</tr>" for cells in others)
    return (
        f'<div style="{SCROLLED}">\n<table style="border-collapse: collapse; text-align: right; white-space: nowrap">\n'
        f'<thead style="{RULE}"><tr>{line("th", first)}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>'
    )


def paragraph(text: str) -> str:
    """Return text as an HTML paragraph that keeps its lines."""
    from html import escape

    lines = ' style="white-space: pre-wrap"' if "\n" in text else ""
    return f"<p{lines}>{escape(text)}</p>" if text else ""


class Text(str):
    """Text of several lines, which a console shows as it is printed."""

    __slots__ = ()
    __repr__ = str.__str__


class Shown:
    """A base class of results that ``print`` and notebooks show as the same tables and text.

    A subclass defines ``_parts``, or ``__str__`` alone if it has no tables.
    """

    __slots__ = ()

    def _parts(self) -> tuple[Any, ...]:
        """Return the tables and texts, in order; an empty text is an empty line."""
        return (str(self),)

    def __str__(self) -> str:
        """Return the tables and texts, below each other."""
        return "\n".join(map(str, self._parts()))

    def _repr_html_(self) -> str:
        """Return the same for notebooks."""
        return "\n".join(paragraph(part) if isinstance(part, str) else part._repr_html_() for part in self._parts())


class Aligned(NamedTuple):
    """A table of text with lines below: the first row is the header, the columns `left` are aligned to the left."""

    rows: Sequence[tuple[str, ...]]
    left: tuple[int, ...]
    below: tuple[str, ...]

    def __str__(self) -> str:
        """Return aligned text."""
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        sides = ["<" if column in self.left else ">" for column in range(len(widths))]
        cells = [list(zip(row, sides, widths, strict=True)) for row in self.rows]
        lines = ["  ".join(f"{text:{side}{width}}" for text, side, width in row) for row in cells]
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([*lines, lines[1], *self.below])

    def text(self) -> Text:
        """Return the aligned text."""
        return Text(self)

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return f"{table(self.rows, left=self.left)}\n{paragraph(chr(10).join(self.below))}"
