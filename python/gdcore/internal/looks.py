"""What text looks like that is meant as a number or a date, but is written in another way than Python's or ISO 8601.

Regular expressions of the whole text without surrounding blanks, in the syntax that Python's `re` and RE2 share;
for the former with `re.ASCII`.
"""

from __future__ import annotations

__all__ = ["CODE", "DATES", "ISO_DATE", "NUMBER", "NUMBERS", "WITH_COMMA", "WITH_THOUSANDS", "WITH_UNIT"]

CODE = r"0\d+"  # digits with zeros in front, which a number would lose
ISO_DATE = r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?"
DATES = (
    r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}( .*)?",
    r"\d{1,2}\.? [A-Z][a-z]{2,8}\.?,? \d{4}( .*)?",
    r"[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}( .*)?",
)
NUMBER = r"[+-]?(\d+({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?"  # to be completed with the sign before a fraction
WITH_COMMA = r"[+-]?\d+,\d+"
WITH_THOUSANDS = r"[+-]?\d{1,3}([,.' ]\d{3})+([.,]\d+)?"
WITH_UNIT = r"([$€£] ?[+-]?\d[\d.,]*( ?[$€£%])?|[+-]?\d[\d.,]* ?[$€£%])"
NUMBERS = (WITH_COMMA, WITH_THOUSANDS, WITH_UNIT)
