"""Check that code compiled for newer processors stays inside the namespaces of its instruction set.

The CPU backend is compiled once per instruction set, and inline functions of the standard library are emitted in each
of these compilations. The linker keeps one copy of each; if it kept the AVX-512 one, a processor without AVX-512 would
stop with an illegal instruction in, say, ``std::vector::push_back``. This script disassembles an unstripped module and
fails when an instruction beyond x86-64-v2 appears outside the namespaces of newer processors, one beyond x86-64-v3
outside ``avx512``, ``avx512_bf16`` and ``amx``, one of AMX outside ``amx``, or any of these in code that runs when the
module is loaded (constructors of static objects). It also fails where the innermost loop of a product's kernel accesses
the stack: the compiler then keeps operands in memory, which halves the speed and changes no result.

Usage: python tools/check_isa.py MODULE
"""

from __future__ import annotations

import argparse
import collections
import re
import subprocess
import sys

Code = list[tuple[int, str]]  # address and instruction

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
PRODUCT, MULTIPLY_ADD = "11tile_kernelI", re.compile(r"^vfn?m(add|sub)")
JUMP, STACK = re.compile(r"^j\w+\s+([0-9a-f]+)\b"), re.compile(r"\(%r[sb]p")


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


def innermost_loop(code: Code) -> Code:
    """Return the shortest loop of a function that has multiply-adds, or an empty list."""
    loops = []
    for end, instruction in code:
        if (jump := JUMP.match(instruction)) and (begin := int(jump[1], 16)) <= end:
            loop = [(address, text) for address, text in code if begin <= address <= end]
            if any(MULTIPLY_ADD.match(text) for _, text in loop):
                loops.append(loop)
    return min(loops, key=len, default=[])


def scan(module: str) -> tuple[collections.Counter[str], dict[str, str], dict[str, Code]]:
    """Disassemble the module.

    Return the number of functions by needed level, {offending function: instruction}, and the code of the products'
    kernels.
    """
    command = ["objdump", "--disassemble", "--wide", "--no-show-raw-insn", module]
    needed: dict[str, int] = {}
    offenders: dict[str, str] = {}
    products: dict[str, Code] = {}
    symbol, allowed = "", 3
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := FUNCTION.match(line):
                symbol = match[1]
                allowed = 3 if CLONE.search(symbol) else allowed_level(symbol)
                needed.setdefault(symbol, 0)
                continue
            place, _, instruction = line.partition("\t")
            instruction = instruction.strip()
            if PRODUCT in symbol and instruction:
                products.setdefault(symbol, []).append((int(place.strip(" :"), 16), instruction))
            level = used_level(instruction)
            if level > needed.get(symbol, 3):
                needed[symbol] = level
                if level > allowed:
                    offenders[symbol] = instruction
    if process.returncode:
        sys.exit(f"objdump failed with status {process.returncode}")
    return collections.Counter(LEVELS[level] for level in needed.values()), offenders, products


def demangled(symbol: str) -> str:
    """Return the name of a function as in the source."""
    return subprocess.run(["c++filt", symbol], check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="unstripped shared library")
    module = parser.parse_args().module
    header = subprocess.run(["objdump", "--file-headers", module], check=True, capture_output=True, text=True).stdout
    if "x86-64" not in header:
        print("instruction sets: not an x86-64 module, one instruction set only")
        return 0
    counts, offenders, products = scan(module)
    print("instruction sets needed, in functions: " + ", ".join(f"{level} {counts[level]}" for level in LEVELS))
    for symbol, instruction in sorted(offenders.items()):
        print(f"  {LEVELS[used_level(instruction)]} instruction in {demangled(symbol)}: {instruction}")
    if offenders:
        print(f"{len(offenders)} functions need more than the processors they run on are known to have")
        return 1
    if not (counts["avx2"] and counts["avx512"]):
        print("no AVX2 or no AVX-512 function found: the module is stripped, or was built without them")
        return 1
    loops = {symbol: loop for symbol, code in products.items() if (loop := innermost_loop(code))}
    slow = [symbol for symbol, loop in loops.items() if any(STACK.search(text) for _, text in loop)]
    print(f"kernels of products with multiply-adds: {len(loops)}")
    for symbol in slow:
        print(f"  the innermost loop accesses the stack in {demangled(symbol)}")
    return int(not loops or bool(slow))


if __name__ == "__main__":
    sys.exit(main())
