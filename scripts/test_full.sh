#!/usr/bin/env bash
# The test suite with the larger counts. Its summary is kept: tests/results/full-summary.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || commit="$commit with uncommitted changes"

status=0
DTMM_FULL=1 "$bin/python" -m pytest --full --numprocesses=auto --dist=loadfile "$@" 2>&1 | tee "$log" || status=$?

mkdir -p tests/results
{
    echo "date: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "commit: $commit"
    echo "machine: $(nproc) cores, $("$bin/python" -V), $(uname -sm)"
    [ -n "${DTMM_MODELS:-}" ] && echo "models: given" || echo "models: not given, their tests skipped"
    grep '^counted: ' "$log" || true
    tail -n 1 "$log"
} >tests/results/full-summary.tmp
mv tests/results/full-summary.tmp tests/results/full-summary.txt
exit "$status"
