#!/usr/bin/env bash
# Style checks of the whole tree, the same in CI and pre-commit.
# Usage: tools/lint.sh [--fix] [ruff] [clang-format] [mypy]     (all three if none is named)
set -euo pipefail
cd "$(dirname "$0")/.."

fix=false
if [[ ${1:-} == --fix ]]; then
    fix=true
    shift
fi
checks=("${@:-all}")
wants() { [[ " ${checks[*]} " == *" $1 "* || ${checks[0]} == all ]]; }

trap '[[ $? == 0 ]] || echo "Formatting is put right by: tools/lint.sh --fix"' EXIT

if wants ruff; then
    if $fix; then
        ruff check --fix .
        ruff format .
    else
        ruff check .
        ruff format --check .
    fi
fi

if wants clang-format; then
    mapfile -t sources < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
    if [[ ${#sources[@]} == 0 ]]; then
        echo "clang-format: no C++ sources are tracked by git"
    elif $fix; then
        clang-format -i "${sources[@]}"
    else
        clang-format --dry-run -Werror "${sources[@]}"
        echo "clang-format: ${#sources[@]} files already formatted"
    fi
fi

if wants mypy; then
    mypy
fi
