#!/usr/bin/env bash
# Measures gdcore on this machine's GPU, against the GPU's limits and other libraries: builds it from source, installs it
# in an environment of its own, runs the device tests, and writes results.json and table.txt to OUT. Needs no network.
# Usage: bench/gpu.sh OUT [WHEELS_DIR] [--dry]
#   OUT         folder for the results
#   WHEELS_DIR  wheels of packages that this Python lacks: pybind11, scikit-build-core, ...
#   --dry       test run: the backend compiled for the CPU, tiny sizes, no other libraries; figures mean nothing
# Environment: PYTHON, the interpreter (python3), with pip; GDCORE_BENCH_BUDGET, seconds without the build (470 minus
# the build time, so that everything ends within eight minutes); GDCORE_GPU_BUILD, the build folder; for --dry,
# GDCORE_DRY_KERNELS and GDCORE_CUDA_LIBRARY, the program and the library if they are already built, and PYTHON with
# gdcore installed: then nothing is built.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dry=false
places=()
for argument in "$@"; do
    case $argument in
        --dry) dry=true ;;
        -*) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
        *) places+=("$argument") ;;
    esac
done
[[ ${#places[@]} -ge 1 ]] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
mkdir -p "${places[0]}"
out=$(cd "${places[0]}" && pwd)
wheels=${places[1]:-}
python=${PYTHON:-python3}
build=${GDCORE_GPU_BUILD:-$root/build/gpu}
kernels=${GDCORE_DRY_KERNELS:-}

# noisy LOG COMMAND...: writes the output to a file, and to the terminal if the command fails.
noisy() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 60 "$log" >&2
        return 1
    }
}

if [[ -z $kernels ]]; then
    mkdir -p "$build"
    environment=$build/environment
    # Uses the outer pip, as a Python may lack ensurepip. A virtual environment created from another one does not see the
    # other's packages; outer.pth adds them.
    "$python" -m venv --without-pip --system-site-packages "$environment"
    "$python" -c 'import site, sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
        >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
    python=$environment/bin/python
    if [[ -n $wheels ]]; then
        noisy "$out/wheels.log" "$python" -m pip install --no-index --no-deps "$wheels"/*.whl
    fi
    if $dry; then
        settings=(-DGDCORE_CUDA=OFF -DGDCORE_CUDA_EMULATION=ON)
        targets="gdcore_python;gdcore_gpu_kernels;gdcore_cuda_emulated"
    else
        settings=(-DGDCORE_CUDA=ON -DGDCORE_CUDA_ARCHITECTURES=native)
        targets="gdcore_python;gdcore_gpu_kernels"
    fi
    noisy "$out/build.log" "$python" -m pip install -v --no-index --no-deps --no-build-isolation \
        -C build-dir="$build/tree" -C build.targets="$targets" -C cmake.args="$(IFS=';' && echo "${settings[*]}")" \
        -C cmake.define.GDCORE_GPU_BENCH=ON "$root"
    kernels=$build/tree/bench/gpu/gdcore_gpu_kernels
    if $dry; then
        export GDCORE_CUDA_LIBRARY=$build/tree/cuda/emulation/libgdcore_cuda_emulated.so
    else
        # The program looks for the library beside itself.
        cp "$build"/tree/cuda/libgdcore_cuda.so "$(dirname "$kernels")/"
    fi
    echo "built and installed in $SECONDS s"
fi
$dry && budget=360 || budget=$((470 - SECONDS))
# Python's path must contain this folder's bench, but not its gdcore.
cd "$root"
PYTHONPATH=$root "$python" -m bench.gpu --out "$out" --kernels "$kernels" \
    --budget "${GDCORE_BENCH_BUDGET:-$budget}" $($dry && echo --dry)
