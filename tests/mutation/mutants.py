"""Plant bugs in device code: find mutants, and rewrite sources so that a number given at run time activates one.

A mutant changes an expression or drops a statement of a `__global__` or `__device__` function. All mutants of a build
are compiled together: `i < n` becomes `(gdcore::mutation::active(17) ? (i <= n) : (i < n))`, and `sum += x` becomes
`(gdcore::mutation::active(23) ? void(0) : void(sum += x))`, so that a hundred bugs cost one compilation.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Rule:
    """A kind of bug: a template or a table replaces the match of group 1 of `pattern` inside its expression."""

    kind: str
    pattern: str
    replacement: str | dict[str, str]


# The sources are formatted: spaces distinguish an operator from a template's bracket, a pointer's star and a sign.
RULES = (
    Rule("bound", r"(?<=\S)( < )(?=\S)", " <= "),
    Rule("bound", r"(?<=\S)( <= )(?=\S)", " < "),
    Rule("bound", r"(?<=\S)( > )(?=\S)", " >= "),
    Rule("bound", r"(?<=\S)( >= )(?=\S)", " > "),
    Rule("condition", r"(?<=\S)( == )(?=\S)", " != "),
    Rule("condition", r"(?<=\S)( != )(?=\S)", " == "),
    Rule("condition", r"(?<=\S)( && )(?=\S)", " || "),
    Rule("condition", r"(?<=\S)( \|\| )(?=\S)", " && "),
    Rule("off by one", r"(?<=[\w)\]])( [+-] 1)(?![\w.])", ""),
    Rule("off by one", r"\[(?:i|k|r|c|row|col|column|lane|warp|w)(?=\])()", " + 1"),
    Rule("arithmetic", r"(?<=[\w)\]])( \+ )(?=[\w(])", " - "),
    Rule("arithmetic", r"(?<=[\w)\]])( - )(?=[\w(])", " + "),
    Rule("arithmetic", r"(?<=[\w)\]])( / )(?=[\w(])", " * "),
    Rule("lost factor", r"(?<=[\w)\]])( \* [\w.]+(?:\[[^\[\]]*\])*)(?![\w(.<:\[])", ""),
    Rule("lane", r"(?<=& )(31)\b", "15"),
    Rule("lane", r"(?<=[%/] )(kWarp|32)\b", "16"),
    Rule("lane", r"(?<=>> )(5)\b", "4"),
    Rule("lane", r"\bthreadIdx(\.x)\b", ".y"),
    Rule("lane", r"\b(blockIdx\.[xy])\b", "0u"),
    Rule("shuffle", r"__shfl_(?:xor|down|up)_sync\([^;]*, (far|offset|distance|delta|lane|\w+)\)", "2 * \\1"),
    Rule("stride", r"(?<=[*%/+] )((?:\w+(?:\.|->))?(?:cols|width|stride))\b(?![\[(])", "(\\1 + 1)"),
    Rule(
        "swapped strides",
        r"(?<![\w.])((\w+) \* ((?:\w+(?:\.|->))?(?:\w*stride|cols|width|in)) \+ (\w+))(?![\w.\[(])",
        r"\4 * \3 + \2",
    ),
    Rule("swapped strides", r"\b(outer_step|depth_step)\b", {"outer_step": "depth_step", "depth_step": "outer_step"}),
    Rule("swapped strides", r"\b\w+(\[0\]\[1\]|\[1\]\[0\])", {"[0][1]": "[1][0]", "[1][0]": "[0][1]"}),
    Rule("reduction", r"(?<= = )\w+(?:\[\w+\])?( > )\w+ \? ", " < "),
    Rule(
        "pair", r"\b(?!threadIdx|blockIdx|blockDim|gridDim)\w+(?:\[\w+\])?(\.x|\.y)\b(?!\()", {".x": ".y", ".y": ".x"}
    ),
    Rule("constant", r"(?<![\w.])((?:T|V|A)\([12](?:\.0f?)?\)|[12]\.0f?|0\.5f?)(?![\w.])", "(0.75 * \\1)"),
)
ATOMIC = re.compile(r"\batomicMin(?=\()")
BARRIER = re.compile(r"\b__sync(?:threads|warp)\([^;]*\)(?=;)")
ASSIGNMENT = re.compile(
    r"(?:^[ ]*|\) |\{ |; |else )([*(]*\w[^;{}=()]*(?:\([^;{}=()]*\)[^;{}=()]*)*?) ([-+*/]?=) ", re.M
)


@dataclass(frozen=True)
class Mutant:
    """`[begin, end)` of a file's text, an expression or a statement without its semicolon, and its replacement."""

    file: str  # relative to the folder cuda
    line: int
    kind: str
    begin: int
    end: int
    before: str
    after: str  # empty: a dropped statement
    place: str  # the source line, as in the list of equivalent mutants

    def describe(self) -> str:
        """Return a readable description, also used in the list of equivalent mutants."""
        return re.sub(r"\s+", " ", f"{self.before} -> {self.after or 'nothing'}")


def blanked(text: str) -> str:
    """Return the text with comments, strings and preprocessor lines replaced by spaces; offsets do not change."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ ]*#(?:[^\n]*\\\n)*[^\n]*'
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S | re.M)


def matching(code: str, at: int) -> int:
    """Return the offset of the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] in OPENING) - (code[i] in CLOSING)
        if depth == 0:
            return i
    raise ValueError(f"no end of the bracket at {at}")


def device_bodies(code: str) -> Iterator[tuple[int, int]]:
    """Yield the bodies of all device functions, without constexpr ones, which may run in the compiler."""
    done = 0
    for match in re.finditer(r"__(?:global|device)__", code):
        if match.start() < done:
            continue
        i = match.end()
        while code[i] not in "{;":  # skips parameters and initialisers in parentheses
            i = matching(code, i) + 1 if code[i] == "(" else i + 1
        if code[i] == "{":
            end = matching(code, i)
            start = max(code.rfind(c, 0, match.start()) for c in ";}{")
            if "constexpr" not in code[start:i]:
                yield i, end
            done = end


def expression_around(code: str, begin: int, end: int) -> tuple[int, int] | None:
    """Return the largest expression around [begin, end) within its bracket, comma, semicolon or assignment."""
    left, depth = begin, 0
    while True:
        c = code[left - 1]
        if depth == 0 and (c in OPENING + ",;?}" or (c == ":" and ":" not in (code[left - 2], code[left]))):
            break
        if depth == 0 and c == "=" and code[left - 2] not in "=<>!" and code[left] != "=":
            break
        depth += (c in CLOSING) - (c in OPENING)
        left -= 1
    right, depth = end, 0
    while True:
        c = code[right]
        if depth == 0 and (c in CLOSING + ",;?{" or (c == ":" and ":" not in (code[right - 1], code[right + 1]))):
            break
        if depth == 0 and c == "=" and code[right + 1] != "=" and code[right - 1] not in "=<>!":
            return None  # the target of an assignment
        depth += (c in OPENING) - (c in CLOSING)
        right += 1
    if code[right] == "{":
        return None
    text = code[left:right]
    lead = re.match(r"\s*(?:(?:else|return)\b\s*)*", text)
    assert lead is not None
    left += lead.end()
    text = code[left:right].rstrip()
    return (left, left + len(text)) if left <= begin and usable(text) else None


def usable(text: str) -> bool:
    """Whether the text is probably an expression that may be put into parentheses."""
    templates = len(re.findall(r"(?<![ <])<(?![ <=])", text)) - len(re.findall(r"(?<![ >-])>(?![>=])", text))
    keywords = r"\b(const|constexpr|auto|case|typename|template|using|static|if|for|while|do|void|sizeof)\b"
    declared = r"^[\w:]+(<.*>)?[&*]* [&*]*\w+$"
    return bool(text) and templates == 0 and not re.search(keywords, text) and not re.match(declared, text)


def compile_time(code: str, begin: int) -> bool:
    """Whether the offset lies in a condition or constant that the compiler evaluates."""
    start = max(code.rfind(c, 0, begin) for c in ";{}")
    statement = code[start + 1 : begin]
    return bool(re.search(r"\b(constexpr|static_assert|GD_SHARED|GD_DYN_SHARED|asm)\b", statement))


def array_bound(code: str, begin: int) -> bool:
    """Whether an expression in square brackets is the size of an array in a declaration: `double sum[2 * K]`."""
    if code[begin - 1] != "[":
        return False
    before = code[max(code.rfind(c, 0, begin) for c in ";{}(\n,") + 1 : begin - 1]
    return bool(re.match(r"\s*(const )?[\w:]+(<.*>)?[&*]* [&*]*\w+(\[\w+\])*$", before)) and "return" not in before


def lesser_or_greater(code: str, begin: int, end: int) -> bool:
    """Whether a comparison selects one of its operands, as in `a < b ? a : b`: equal operands give the same result."""
    match = re.match(r"(.+) [<>]=? (.+)", code[begin:end])
    if match is None:
        return False
    operands = sorted([re.escape(match[1]), re.escape(match[2])])
    pattern = r"\s*\?\s*(?:{0} : {1}|{1} : {0})(?![\w.\[(])".format(*operands)
    return bool(re.match(pattern, code[end:]))


def find(path: Path, name: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of their offsets; `name` becomes their file name."""
    text = path.read_text()
    code, lines = blanked(text), text.splitlines()
    mutants: dict[tuple[int, int, str], Mutant] = {}

    def add(kind: str, begin: int, end: int, after: str) -> None:
        before, after = code[begin:end], re.sub(r"\s+", " ", after)
        balanced = all(after.count(a) == after.count(b) for a, b in zip(OPENING, CLOSING, strict=True))
        if before != after and balanced and not compile_time(code, begin):
            line = code.count("\n", 0, begin) + 1
            mutant = Mutant(name, line, kind, begin, end, before, after, lines[line - 1].strip())
            mutants.setdefault((begin, end, after), mutant)

    for first, last in device_bodies(code):
        for rule in RULES:
            for match in re.compile(rule.pattern).finditer(code, first, last):
                begin, end = match.span(1)
                unit = expression_around(code, begin, end)
                if unit is None or array_bound(code, unit[0]) or unit[1] < end:
                    continue
                new = rule.replacement
                new = new[match[1]] if isinstance(new, dict) else match.expand(new)
                if not (rule.kind == "bound" and lesser_or_greater(code, *unit)):
                    add(rule.kind, *unit, code[unit[0] : begin] + new + code[end : unit[1]])
        for match in BARRIER.finditer(code, first, last):
            add("barrier", *match.span(), "")
        for match in ATOMIC.finditer(code, first, last):
            end = matching(code, match.end()) + 1
            add("atomic", match.start(), end, "gdcore::mutation::plain_min" + code[match.end() : end])
        for match in ASSIGNMENT.finditer(code, first, last):
            target, operator = match[1], match[2]
            if operator == "=" and not re.search(r"[\])]$|->\w+$|^\*|\.[xyzw]$", target):
                continue  # a declaration, or a variable that the next statement overwrites
            if re.match(r"(const )?[\w:]+(<.*>)?[&*]* [&*]*\w", target) and " " in target.split("[")[0]:
                continue  # a declaration
            end = code.index(";", match.end())
            statement = code[match.start(1) : end]
            if "{" not in statement and statement.count("(") == statement.count(")"):  # else the step of a loop
                add("lost write" if operator == "=" else "lost term", match.start(1), end, "")
                counts = re.search(r"(^|->|\.)(step|first|next_?)$", target) or "Dim" in statement
                if operator == "+=" and not counts:
                    add("reduction", match.start(1), end, statement.replace(" += ", " -= ", 1))
    return sorted(mutants.values(), key=lambda m: (m.begin, m.end, m.after))


def overlap(a: Mutant, b: Mutant) -> bool:
    """Whether two mutants cannot be in one build: they may have the same expression, but not nested ones."""
    if a.file != b.file or (a.begin, a.end) == (b.begin, b.end):
        return False
    return a.begin < b.end and b.begin < a.end


def compatible(mutants: list[Mutant]) -> list[list[Mutant]]:
    """Divide the mutants among as few builds as a greedy search needs."""
    builds: list[list[Mutant]] = []
    for mutant in mutants:
        for build in builds:
            if not any(overlap(mutant, other) for other in build):
                build.append(mutant)
                break
        else:
            builds.append([mutant])
    return builds


def sample(mutants: list[Mutant], count: int, of_kind: int, seed: str) -> list[Mutant]:
    """Choose `count` mutants for one build: first `of_kind` of every kind, if there are as many, then of all kinds.

    Each choice prefers the file, then the kind, with the fewest mutants so far. Ties are decided by a hash of the
    mutant's text: a change elsewhere in the sources hardly changes the sample.
    """

    def order(mutant: Mutant) -> tuple[bytes, int]:
        text = f"{seed} {mutant.file} {mutant.kind} {mutant.describe()}"
        return hashlib.sha256(text.encode()).digest(), mutant.begin

    chosen: list[Mutant] = []
    files, kinds = Counter[str](), Counter[str]()

    def take(candidates: list[Mutant], most: int) -> None:
        left = [mutant for mutant in candidates if mutant not in chosen]
        while most > 0 and left:
            mutant = min(left, key=lambda m: (files[m.file], kinds[m.kind]))
            left.remove(mutant)
            if not any(overlap(mutant, other) for other in chosen):
                chosen.append(mutant)
                files[mutant.file] += 1
                kinds[mutant.kind] += 1
                most -= 1

    ordered = sorted(mutants, key=order)
    for kind, _ in reversed(Counter(mutant.kind for mutant in ordered).most_common()):  # rarest first
        take([mutant for mutant in ordered if mutant.kind == kind], of_kind)
    take(ordered, count - len(chosen))
    return sorted(chosen, key=lambda m: (m.file, m.begin))


def planted(text: str, numbered: list[tuple[int, Mutant]]) -> str:
    """Return the source with these mutants planted, each selected by its number; line numbers do not change."""
    units: dict[tuple[int, int], list[tuple[int, Mutant]]] = {}
    for number, mutant in numbered:
        units.setdefault((mutant.begin, mutant.end), []).append((number, mutant))
    for (begin, end), group in sorted(units.items(), reverse=True):
        code = text[begin:end]
        dropped = any(not mutant.after for _, mutant in group)
        new = f"void({code})" if dropped else f"({code})"
        for number, mutant in group:
            changed = f"({mutant.after})" if mutant.after else "0"
            changed = f"void({changed})" if dropped else changed
            new = f"(gdcore::mutation::active({number}) ? {changed} : {new})"
        text = text[:begin] + new + text[end:]
    return text
