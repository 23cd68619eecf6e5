"""Check that code compiled for newer processors stays inside the namespaces of its instruction set.

The CPU backend is compiled once per instruction set, and inline functions of the standard library are emitted in each
of these compilations. The linker keeps one copy of each; if it kept the AVX-512 one, a processor without AVX-512 would
stop with an illegal instruction in, say, ``std::vector::push_back``. This script disassembles an unstripped module and
fails when an instruction beyond x86-64-v2 appears outside the namespaces of newer processors, one beyond x86-64-v3
outside ``avx512``, ``avx512_bf16`` and ``amx``, one of AMX outside ``amx``, or any of these in code that runs when the
module is loaded (constructors of static objects).

Usage: python tools/check_isa.py MODULE
"""

from __future__ import annotations

import argparse
import collections
import re
import subprocess
import sys

LEVELS = ("baseline", "avx2", "avx512", "amx")
# Local copies made by the optimiser: only their own object file can call them, so they are allowed.
CLONE = re.compile(r"\.(isra|constprop|part|cold)\b")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
AMX = re.compile(r"%tmm\d|^(tile|ldtilecfg|sttilecfg|tdp)")
# AVX512: a zmm, mask or extended register. AVX2: instructions with a VEX or EVEX prefix, and of BMI, LZCNT and MOVBE.
# (tzcnt is omitted on purpose: older processors run it as bsf, and compilers rely on that.)
AVX512 = re.compile(r"%(zmm\d|[xy]mm(1[6-9]|2\d|3[01])\b|k[0-7]\b)")
AVX2 = re.compile(
    r"%ymm\d|^v(?!err|erw|mcall|mlaunch|mresume|mx)"
    r"|^(andn|bextr|bls(i|r|msk)|bzhi|mulx|pdep|pext|rorx|s[ah][lr]x|lzcnt|movbe)[wlq]?\b"
)


def allowed_level(symbol: str) -> int:
    """Return the highest index in LEVELS that the function may use, from its mangled name."""
    if symbol.startswith("_GLOBAL__"):
        return 0
    if "3amx" in symbol:
        return 3
    if "6avx512" in symbol or "11avx512_bf16" in symbol:
        return 2
    return 1 if "4avx2" in symbol else 0


def used_level(instruction: str) -> int:
    """Return the index in LEVELS of the instruction set that one disassembled instruction needs."""
    if AMX.search(instruction):
        return 3
    if AVX512.search(instruction):
        return 2
    return 1 if AVX2.search(instruction) else 0


def scan(module: str) -> tuple[collections.Counter[str], dict[str, str]]:
    """Disassemble the module; return the number of functions by needed level and {offending function: instruction}."""
    command = ["objdump", "--disassemble", "--wide", "--no-show-raw-insn", module]
    needed: dict[str, int] = {}
    offenders: dict[str, str] = {}
    symbol, allowed = "", 3
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := FUNCTION.match(line):
                symbol = match[1]
                allowed = 3 if CLONE.search(symbol) else allowed_level(symbol)
                needed.setdefault(symbol, 0)
                continue
            instruction = line.partition("\t")[2].strip()
            level = used_level(instruction)
            if level > needed.get(symbol, 3):
                needed[symbol] = level
                if level > allowed:
                    offenders[symbol] = instruction
    if process.returncode:
        sys.exit(f"objdump failed with status {process.returncode}")
    return collections.Counter(LEVELS[level] for level in needed.values()), offenders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="unstripped shared library")
    module = parser.parse_args().module
    header = subprocess.run(["objdump", "--file-headers", module], check=True, capture_output=True, text=True).stdout
    if "x86-64" not in header:
        print("instruction sets: not an x86-64 module, one instruction set only")
        return 0
    counts, offenders = scan(module)
    print("instruction sets needed, in functions: " + ", ".join(f"{level} {counts[level]}" for level in LEVELS))
    for symbol, instruction in sorted(offenders.items()):
        name = subprocess.run(["c++filt", symbol], check=True, capture_output=True, text=True).stdout.strip()
        print(f"  {LEVELS[used_level(instruction)]} instruction in {name}: {instruction}")
    if offenders:
        print(f"{len(offenders)} functions need more than the processors they run on are known to have")
        return 1
    if not (counts["avx2"] and counts["avx512"]):
        print("no AVX2 or no AVX-512 function found: the module is stripped, or was built without them")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
