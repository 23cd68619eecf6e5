"""Formulas of whole numbers, int64, in operators of ONNX, and the calendar: the parts of dates of `gdcore.tables`."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph

__all__ = ["Whole", "difference", "parts_of"]

DAY = 86_400_000_000  # microseconds
EARLIER = 719_468  # days from 1 March of the year 0, where the formulas begin, to 1970
FIRST = 719_162  # days from 1 January of the year 1 to 1970
HALF = 2**32


class Whole:
    """A tensor of whole numbers: ``days // 7 + 1`` adds nodes to its graph.

    Division is exact, or of numbers of at least 0: ONNX rounds the quotient towards 0.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, operator: str, other: Whole | int) -> Whole:
        name = other.name if isinstance(other, Whole) else self.graph.constant("whole", other, "int64")
        return Whole(self.graph, self.graph.add(operator, self.name, name))

    def __add__(self, other: Whole | int) -> Whole:
        """Add numbers."""
        return self._with("Add", other)

    def __sub__(self, other: Whole | int) -> Whole:
        """Subtract numbers."""
        return self._with("Sub", other)

    def __mul__(self, other: int) -> Whole:
        """Multiply by a number."""
        return self._with("Mul", other)

    def __floordiv__(self, other: int) -> Whole:
        """Divide; see above."""
        return self._with("Div", other)

    def __mod__(self, other: int) -> Whole:
        """Return the remainder, which is at least 0."""
        return self._with("Mod", other)

    def real(self) -> str:
        """Return the name of the numbers as float64."""
        return self.graph.cast(self.name, "float64")


def difference(x: Whole, offset: int) -> str:
    """Add x - offset, rounded to float64 once; both halves of the 64 bits have exact differences."""
    graph, low = x.graph, x % HALF
    high = (x - low) // HALF - offset // HALF
    scaled = graph.add("Mul", high.real(), graph.constant("half", HALF, "float64"))
    return graph.add("Add", scaled, (low - offset % HALF).real())


def parts_of(moments: Whole) -> Callable[[str], str]:
    """Return a function that adds a part of dates, float64, as `gdcore.tables.encoding` defines it.

    `moments` are microseconds since 1970 in the years 1 to 9999. Year and month are those of Hinnant's
    "chrono-compatible low-level date algorithms" (civil_from_days), in which years begin in March.
    """
    later = moments + EARLIER * DAY  # at least 0
    days, clock = later // DAY, later % DAY

    def civil() -> tuple[Whole, Whole, Whole]:
        """Return the year, and month and day counted from 0."""
        era = days // 146_097  # of 400 years
        in_era = days - era * 146_097
        year = (in_era - in_era // 1460 + in_era // 36_524 - in_era // 146_096) // 365
        in_year = in_era - (year * 365 + year // 4 - year // 100)
        march = (in_year * 5 + 2) // 153  # months since March
        day = in_year - (march * 153 + 2) // 5
        return era * 400 + year + (march + 2) // 12, (march + 2) % 12, day

    def day_of_year() -> Whole:
        before = civil()[0] - 1
        first = before * 365 + before // 4 - before // 100 + before // 400
        return days - first - (EARLIER - FIRST)

    def time() -> str:
        graph = moments.graph
        return graph.add("Div", moments.real(), graph.constant("day", DAY, "float64"))

    parts: dict[str, Callable[[], Whole]] = {
        "year": lambda: civil()[0] - 1970,
        "month": lambda: civil()[1],
        "day": lambda: civil()[2],
        "day_of_year": day_of_year,
        "weekday": lambda: (days + (-EARLIER) % 7) % 7,
        "hour": lambda: clock // (DAY // 24),
        "minute": lambda: clock // (DAY // 1440) % 60,
    }
    return lambda part: time() if part == "time" else parts[part]().real()
