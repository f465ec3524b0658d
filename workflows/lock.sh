#!/usr/bin/env bash
# Writes requirements.lock: the newest versions that pyproject.toml allows, for CPython 3.11 to 3.13 at once. What is in
# the lock already stays if it may. Needs uv and a network. `lock.sh --check` only compares; without a network it
# does so in continuous integration alone.
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS=(bench build cluster dev docs) # not the libraries that corrloss.integrations serves
LOCK=requirements.lock

fail() { printf 'make: %s\n' "$@" >&2; exit 1; }

# Versions and markers; hashes may grow, where a release gets further wheels.
versions() { sed -n 's/ *\\$//; /^[a-z]/p' "$1"; }

command -v uv >/dev/null || fail "expected uv to make $LOCK, found none. Install it: pip install uv"
new=$(mktemp)
trap 'rm -f "$new"' EXIT
grep -v '^#' "$LOCK" >"$new"
uv pip compile pyproject.toml --config-file workflows/uv.toml --quiet --universal --python-version 3.11.5 "${EXTRAS[@]/#/--extra=}" \
  --generate-hashes --no-annotate --no-header --output-file "$new" >/dev/null || {
  [ "${1:-}" != --check ] || [ -n "${CI:-}" ] || { echo "$LOCK was not compared with pyproject.toml" && exit; }
  fail "uv could not resolve pyproject.toml; its message is above"
}

if [ "${1:-}" = --check ]; then
  diff <(versions "$LOCK") <(versions "$new") ||
    fail "$LOCK is not what pyproject.toml asks for (< is the lock); run make lock"
else
  { sed -n '/^#/!q; p' "$LOCK" && cat "$new"; } >"$LOCK.part"
  mv "$LOCK.part" "$LOCK"
fi
