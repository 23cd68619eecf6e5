"""The result of a reproduction: a table of published and measured numbers, a figure, and notes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...internal.display import Shown
from ...table import Table

__all__ = ["Reproduction"]


@dataclass(frozen=True)
class Reproduction(Shown):
    """A published result and gdcore's measurement of it.

    Attributes
    ----------
    name : str
        Its name on the command line and of its files.
    title : str
        One sentence about the result.
    table : Table
        One row a number: the columns ``quantity``, ``published``, ``measured``, then optional ones.
    figure : Path
        The PNG that was drawn, ``NAME.png``.
    notes : tuple of str
        The method and differences from the publication, a paragraph each.
    """

    name: str
    title: str
    table: Table
    figure: Path
    notes: tuple[str, ...] = ()

    def _parts(self) -> tuple[Table | str, ...]:
        """Return title, table and notes as text."""
        return self.title, "", self.table, *(part for note in self.notes for part in ("", note))

    def to_markdown(self) -> str:
        """Return title, figure, table and notes in Markdown; the figure is linked by its name, in the same folder."""
        figure = f"![{self.title}]({self.figure.name})"
        return "\n\n".join((f"# {self.title}", figure, self.table.to_markdown(), *self.notes)) + "\n"

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``NAME.csv`` and ``NAME.md`` into `folder`."""
        self.table.to_csv(Path(folder) / f"{self.name}.csv")
        (Path(folder) / f"{self.name}.md").write_text(self.to_markdown(), encoding="utf-8")


def figure_path(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the path of the figure of the reproduction `name`, and create its folder."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path / f"{name}.png"


def compared(rows: Sequence[tuple[str, object, object, str]]) -> Table:
    """Return a table of rows (quantity, published, measured, remark), without empty remarks."""
    return Table(
        {"quantity": quantity, "published": published, "measured": measured} | ({"remark": remark} if remark else {})
        for quantity, published, measured, remark in rows
    )
