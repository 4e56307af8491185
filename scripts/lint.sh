#!/usr/bin/env bash
# Style, types and the rules of the house; stops at the first that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
"$bin/ruff" check --quiet
"$bin/ruff" format --check --quiet
"$bin/mypy" --no-error-summary
"$bin/lint-imports" --no-cache | sed '/^[^A-Za-z0-9]*$/d'
