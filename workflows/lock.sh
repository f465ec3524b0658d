#!/usr/bin/env bash
# Writes the locks: the newest versions that pyproject.toml allows, for CPython 3.11 to 3.13 at once. What is in a lock
# already stays if it may; what the two share has one version. Needs uv and a network. `lock.sh --check` only compares;
# without a network it does so in continuous integration alone.
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS=(build cluster dev docs) # not the libraries that corrloss.integrations serves

fail() { printf 'make: %s\n' "$@" >&2; exit 1; }

# Versions and markers; hashes may grow, where a release gets further wheels.
versions() { sed -n 's/ *\\$//; /^[a-z]/p' "$1"; }

# resolve LOCK STACK [more of uv's options]: what the lock is to have, in $new.
resolve() {
  local lock=$1 stack=$2
  shift 2
  grep -v '^#' "$lock" >"$new"
  uv pip compile pyproject.toml --config-file workflows/uv.toml --quiet --universal --python-version 3.11.5 \
    --extra="$stack" "${EXTRAS[@]/#/--extra=}" "$@" --generate-hashes --no-annotate --no-header --output-file "$new" >/dev/null
}

update() {
  local lock=$1
  resolve "$@" || {
    [ "$check" = no ] || [ -n "${CI:-}" ] || { echo "$lock was not compared with pyproject.toml" && return; }
    fail "uv could not resolve pyproject.toml; its message is above"
  }
  if [ "$check" = yes ]; then
    diff <(versions "$lock") <(versions "$new") ||
      fail "$lock is not what pyproject.toml asks for (< is the lock); run make lock"
  else
    { sed -n '/^#/!q; p' "$lock" && cat "$new"; } >"$lock.part"
    mv "$lock.part" "$lock"
  fi
}

command -v uv >/dev/null || fail "expected uv to make the locks, found none. Install it: pip install uv"
check=no
[ "${1:-}" != --check ] || check=yes
new=$(mktemp)
trap 'rm -f "$new"' EXIT
update requirements.lock bench
update requirements.onedl.lock onedl --constraint requirements.lock
