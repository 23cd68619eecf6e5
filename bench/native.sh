#!/usr/bin/env bash
# Builds and runs the native benchmarks, prints a table and writes JSON.
# Usage: bench/native.sh [OUT.json] [--smoke] [--threads N] [-- GOOGLE_BENCHMARK_ARGUMENTS...]
#   OUT.json    file for the results; default: native.json in the build folder
#   --smoke     runs every small benchmark briefly to test that it works; its figures mean nothing
#   --threads N number of threads for the library and for the limits
# Example: bench/native.sh adam.json --threads 2 -- --benchmark_filter=optimizer/Adam
# Environment: GDCORE_BENCH_BUILD, the build folder (build/bench); GDCORE_BENCH_STREAM_MB, size of the memory for the
# measurement of bandwidth; GDCORE_CPU_ISA and OMP_NUM_THREADS as for the library.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${GDCORE_BENCH_BUILD:-$root/build/bench}
out=
arguments=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --smoke) arguments+=(--smoke) ;;
        --threads) arguments+=(--threads "${2:?--threads needs a number}") && shift ;;
        --)
            shift
            arguments+=("$@")
            break
            ;;
        -*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
        *) out=$1 ;;
    esac
    shift
done
out=${out:-$build/native.json}

generator=()
[[ -e $build/CMakeCache.txt ]] || ! command -v ninja >/dev/null || generator=(-G Ninja)
mkdir -p "$build"
{
    cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DGDCORE_BENCH=ON -DGDCORE_PYTHON=OFF \
        -DGDCORE_TESTS=OFF &&
        cmake --build "$build" --target gdcore_bench --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
} >"$build/build.log" 2>&1 || {
    tail -n 40 "$build/build.log" >&2
    exit 1
}
"$build/bench/native/gdcore_bench" "--benchmark_out=$out" --benchmark_out_format=json "${arguments[@]}"
echo "written to $out"
