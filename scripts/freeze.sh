#!/usr/bin/env bash
# Writes constraints.txt from the packages in .venv, without local versions such as +cpu.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
{
    grep '^#' constraints.txt
    "$bin/python" -m pip freeze --exclude-editable | sed 's/+[A-Za-z0-9.]*$//' | sort -f
} >constraints.tmp
mv constraints.tmp constraints.txt
