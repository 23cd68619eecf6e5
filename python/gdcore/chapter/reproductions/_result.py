"""What a reproduction hands back: a table of published beside measured numbers, a figure, and what is to be said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...table import Table

__all__ = ["Reproduction"]


@dataclass(frozen=True)
class Reproduction:
    """A published result beside gdcore's own measurement of it.

    Attributes
    ----------
    name : str
        Its name on the command line; the files are called after it.
    title : str
        One sentence that says what the numbers show.
    table : Table
        One row a number: the columns ``quantity``, ``published``, ``measured``, then others where they help.
    figure : Path
        The PNG that was drawn, ``NAME.png``.
    notes : tuple of str
        How it was measured and where it differs from what was published, a paragraph each.
    """

    name: str
    title: str
    table: Table
    figure: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return title, table and notes as text."""
        return "\n\n".join((self.title, str(self.table), *self.notes))

    def to_markdown(self) -> str:
        """Return title, figure, table and notes in Markdown; the figure is linked by its name, in the same folder."""
        figure = f"![{self.title}]({self.figure.name})"
        return "\n\n".join((f"# {self.title}", figure, self.table.to_markdown(), *self.notes)) + "\n"

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``NAME.csv`` and ``NAME.md`` into `folder`, beside the figure."""
        self.table.to_csv(Path(folder) / f"{self.name}.csv")
        (Path(folder) / f"{self.name}.md").write_text(self.to_markdown(), encoding="utf-8")


def figure_path(folder: str | os.PathLike[str], name: str) -> Path:
    """Return where the figure of the reproduction `name` belongs, and make its folder."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path / f"{name}.png"


def compared(rows: Sequence[tuple[str, object, object, str]]) -> Table:
    """Return a table of rows (quantity, published, measured, remark), the remarks left out where they are empty."""
    return Table(
        {"quantity": quantity, "published": published, "measured": measured} | ({"remark": remark} if remark else {})
        for quantity, published, measured, remark in rows
    )
