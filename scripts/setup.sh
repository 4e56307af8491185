#!/usr/bin/env bash
# Makes this checkout ready to run: Debian packages, the virtual environment .venv, dtmm itself.
# Says what it will install before it does; does nothing, in well under a second, when all is there.
# Environment: PYTHON (default python3); pip's own settings (PIP_INDEX_URL, ...) apply.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
stamp=.venv/.dtmm-setup

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Debian packages whose program or file is not there, one name per word.
missing_packages() {
    have clang-19 || echo clang-19
    { have llvm-mca-19 && have llvm-objdump-19; } || echo llvm-19
    have arm-none-eabi-gcc || echo gcc-arm-none-eabi
    newlib || echo libnewlib-arm-none-eabi
    have qemu-system-arm || echo qemu-system-arm
    have cc || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    have cmake || echo cmake
    have ninja || have make || echo ninja-build
    [ -d /usr/share/datasets/fashion-mnist ] || echo dataset-fashion-mnist
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    have "$python" || echo python3
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

have() { command -v "$1" >/dev/null; }

# The compiler answers with the bare name when it has no such file.
newlib() { [ -e "$(arm-none-eabi-gcc -print-file-name=nosys.specs 2>/dev/null)" ]; }

install_packages() {
    local packages=$1 as_root=()
    if ! have apt-get; then
        die "no apt-get here; install what gives these Debian packages, then run again: $packages"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "neither root nor sudo; as root run: apt-get install --no-install-recommends $packages"
        as_root=(sudo)
        if [ ! -t 0 ] && ! sudo -n true 2>/dev/null; then
            die "sudo wants a password and there is no terminal; run: sudo apt-get install --no-install-recommends $packages"
        fi
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get)
    say "installing with apt-get: $packages"
    "${as_root[@]}" update -qq || say "apt-get update failed; trying with the package lists at hand"
    # shellcheck disable=SC2086  # one word per package
    "${as_root[@]}" install -y -qq --no-install-recommends $packages \
        || die "apt-get could not install: $packages"
}

# What .venv depends on: the requirements, this script, the interpreter, and where .venv lies.
wanted_stamp() {
    { cat pyproject.toml constraints.txt scripts/setup.sh; "$python" -VV; pwd; } | sha256sum
}

# Made by the same interpreter and not moved since: pip then changes only what differs.
reusable() {
    [ -x .venv/bin/python ] && [ "$(.venv/bin/python -VV)" = "$("$python" -VV)" ] \
        && [[ $(head -n 1 .venv/bin/pip) == "#!$PWD/.venv/bin/python"* ]]
}

make_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || die "$python is $("$python" -V 2>&1), expected Python 3.11 or later; set PYTHON"
    say "making .venv with the packages of constraints.txt (minutes; torch is the largest)"
    rm -f "$stamp"
    reusable || "$python" -m venv --clear .venv || die "cannot make .venv"
    local pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt)
    "${pip[@]}" --editable '.[dev]' || die "pip could not install dtmm"
    # their dependencies would bring another torch; tests compare with their definitions and groups
    "${pip[@]}" --no-deps pytorchcv torch-pruning || die "pip could not install pytorchcv, torch-pruning"
}

packages=$(missing_packages | sort -u | paste -sd ' ' -)
if [ -n "$packages" ]; then
    say "missing Debian packages: $packages"
    install_packages "$packages"
    left=$(missing_packages | sort -u | paste -sd ' ' -)
    [ -z "$left" ] || die "still missing after installation: $left"
fi
wanted=$(wanted_stamp)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x .venv/bin/dtmm ]; then
    make_environment
    printf '%s\n' "$wanted" >"$stamp"
    say "ready"
fi
