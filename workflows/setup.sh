#!/usr/bin/env bash
# Builds the environment in $VENV from $LOCK. Called by make; safe to run again after any failure.
#   LOCK=...     requirements.lock (mmdet 3.3.0) or requirements.onedl.lock (OneDL's fork of it)
#   PYTHON=...   the interpreter; by default that of $VENV, else the newest of $PYTHONS that runs here
#   WHEELS=DIR   installs from these files alone, without a network
#   setup.sh wheels DIR   collects them, for a machine of the same kind with the same Python
# Where uv is installed, it creates the environment and installs packages, and brings Python if there is none; else
# Python's venv and pip do. pip always builds mmcv, and keeps its wheel.
set -euo pipefail

PYTHONS="3.13 3.12 3.11"
SUPPORTED='import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))'
PYTHON=${PYTHON:-}
VENV=${VENV:-.venv}
WHEELS=${WHEELS:-}
LOCK=${LOCK:-requirements.lock}
MMCV='^(onedl-)?mmcv=='
BUILD_TOOLS='^(setuptools|wheel|ninja|psutil|packaging)=='
NEED_KIB=$((4 * 1024 * 1024))

fail() { printf '\nmake: %s\n' "$@" >&2; exit 1; }
step() { printf '==> %s\n' "$1"; }
has_uv() { command -v uv >/dev/null; }
runs() { "$@" -c '' 2>/dev/null; } # a name on the PATH may run nothing: a shim of pyenv, for example

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'; }

find_python() {
  local version
  for version in $PYTHONS; do
    if runs "python$version"; then echo "python$version" && return; fi
  done
  if has_uv; then echo "${PYTHONS%% *}" && return; fi # uv downloads it
  fail "expected one of Python $PYTHONS, found none. Install CPython 3.11 to 3.13 with its headers (Debian: apt-get install python3-dev python3-venv) or uv, which brings it, or name it: make PYTHON=/path/to/python3.12"
}

check_machine() {
  command -v "${CXX:-g++}" >/dev/null ||
    fail "expected a C++ compiler for mmcv's operators, found no ${CXX:-g++}. Install one (Debian: apt-get install g++), or name it: make CXX=/path/to/compiler"
  [ -z "$WHEELS" ] || [ -d "$WHEELS" ] || fail "expected a folder of wheels, found no $WHEELS; make wheels collects them"
  local free
  free=$(df -Pk . | awk 'NR == 2 {print $4}')
  [ "$free" -ge "$NEED_KIB" ] ||
    fail "expected $((NEED_KIB / 1024)) MiB of free disk for the environment (more if pip installs torch with CUDA), found $((free / 1024)) MiB. Make room and run make again."
}

make_venv() {
  step "virtual environment in $VENV, with $PYTHON"
  if has_uv; then
    uv venv --quiet --seed --clear --python "$PYTHON" "$VENV" || fail "uv found no $PYTHON; its message is above"
  else
    runs "$PYTHON" || fail "expected a Python, $PYTHON runs none. Name one: make PYTHON=/path/to/python3.12"
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
      fail "$PYTHON has no venv module. Install it (Debian: apt-get install python3-venv)."
    "$PYTHON" -m venv --clear "$VENV"
  fi
}

check_venv() {
  local version header
  version=$(version_of "$VENV/bin/python")
  "$VENV/bin/python" -c "$SUPPORTED" ||
    fail "$VENV has Python $version, but the pinned versions need Python 3.11.5 to 3.13; remove it (rm -r $VENV) and run make again."
  ! runs "$PYTHON" || [ "$version" = "$(version_of "$PYTHON")" ] ||
    fail "$VENV has Python $version, but $PYTHON is $(version_of "$PYTHON"); remove $VENV and run make again, or leave PYTHON out."
  "$VENV/bin/python" -c 'import pip' 2>/dev/null ||
    fail "$VENV has no pip (uv creates such environments); remove it (rm -r $VENV) and run make again."
  header=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || fail "expected $header for mmcv's operators, found none. Install it (Debian: apt-get install python${version%.*}-dev)."
}

# The installer's own messages are kept; ours says what to do.
install() {
  local installer=("$VENV/bin/python" -m pip install --disable-pip-version-check)
  if has_uv; then installer=(uv pip install --python "$VENV/bin/python"); fi
  "${installer[@]}" --quiet ${WHEELS:+--no-index --find-links "$WHEELS"} "$@" ||
    fail "could not install ${*: -1}; the installer's message is above. Check the network and the disk, then run make again: finished steps are kept."
}

# Requirements of the lock whose line matches: with their hashes, or the versions alone.
locked() { awk -v wanted="$1" '/^[a-z]/ {found = $0 ~ wanted} found' "$LOCK"; }
pins() { locked "$1" | sed -nE 's/^([a-z][^ ;]*==[^ ;]+).*/\1/p'; }

# mmcv 2.1.0 reads its version by exec() and then locals(), which Python 3.13 keeps apart (PEP 667). While pip builds it,
# exec(code) writes into the variables of its caller, as it did before.
with_old_exec() {
  mkdir -p "$VENV/mmcv-build"
  cat >"$VENV/mmcv-build/sitecustomize.py" <<'PYTHON'
import builtins
import sys

new_exec = builtins.exec


def old_exec(code, globals=None, locals=None, /, **options):
    if globals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    new_exec(code, globals, locals, **options)


if sys.version_info >= (3, 13):
    builtins.exec = old_exec
PYTHON
  PYTHONPATH=$(cd "$VENV/mmcv-build" && pwd) "$@"
}

build_mmcv() {
  "$VENV/bin/python" -c 'import mmcv.ops' 2>/dev/null && return
  step "mmcv with its compiled operators: minutes the first time on a machine, seconds after (pip keeps the wheel)"
  local log=$VENV/mmcv-build.log started=$SECONDS flags
  # Python's own flags ask for debug information, which takes half of the compiler's time.
  flags=${CFLAGS:-$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))')}
  CFLAGS="$flags -g0" MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)} with_old_exec "$VENV/bin/python" -m pip install --verbose \
    --disable-pip-version-check --no-build-isolation --no-deps ${WHEELS:+--no-index --find-links "$WHEELS"} \
    "$(pins "$MMCV")" >"$log" 2>&1 &
  local build=$!
  while kill -0 "$build" 2>/dev/null; do
    sleep 2
    local count
    count=$(grep -oE '\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 || true)
    [ $(((SECONDS - started) % 20)) -lt 2 ] && [ -n "$count" ] &&
      printf '    compiled %s after %d:%02d\n' "$count" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
  done
  wait "$build" || { tail -n 25 "$log" >&2; fail "mmcv did not build; the end of $log is above."; }
}

check_environment() {
  step "checking the environment"
  "$VENV/bin/python" -W ignore - <<'PYTHON'
import sys
import torch
from mmcv.ops import get_compiling_cuda_version, nms

boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
_, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
if kept.tolist() != [0, 2]:
    sys.exit(f"mmcv's compiled NMS: expected boxes [0, 2], got {kept.tolist()}; delete {sys.prefix} and run make again")
if torch.cuda.is_available() and get_compiling_cuda_version() == "not available":
    sys.exit("this machine has a GPU, but the mmcv wheel in pip's cache was built without CUDA: "
             f"run `pip cache remove '*mmcv'`, put nvcc on the PATH, delete {sys.prefix} and run make again")
PYTHON
}

set_up() {
  check_machine
  if ! runs "$VENV/bin/python"; then
    PYTHON=${PYTHON:-$(find_python)}
    make_venv
  fi
  check_venv
  export PIP_USER=0 # pip refuses PIP_USER=1, and `user = true` in its configuration, in a virtual environment
  step "build tools and torch"
  locked "$BUILD_TOOLS" >"$VENV/build-tools.txt"
  install --no-deps --requirement "$VENV/build-tools.txt"
  # Without a hash: the build for CPUs and that for each CUDA are other files of one version.
  pins . >"$VENV/versions.txt"
  install --constraint "$VENV/versions.txt" "$(pins '^torch==')"
  build_mmcv
  step "everything else in $LOCK"
  install --no-deps --no-build-isolation --requirement "$LOCK"
  install --no-deps --no-build-isolation --editable .
  check_environment || fail "the environment is incomplete; see the message above"
  step "ready"
}

collect_wheels() {
  local folder=$1 pip=("$VENV/bin/python" -m pip --disable-pip-version-check --quiet)
  mkdir -p "$folder"
  locked . | awk '/^[a-z]/ {other = !/^(torch|(onedl-)?mmcv)==/} other' >"$VENV/others.txt"
  step "$(grep -c == "$VENV/others.txt") packages of $LOCK into $folder"
  "${pip[@]}" download --no-deps --no-build-isolation --dest "$folder" --requirement "$VENV/others.txt"
  step "torch with what it needs, and mmcv"
  "${pip[@]}" download --dest "$folder" --constraint "$VENV/versions.txt" "$(pins '^torch==')"
  MMCV_WITH_OPS=1 with_old_exec "${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$folder" "$(pins "$MMCV")"
  step "ready: copy $folder, then there: make setup WHEELS=$folder"
}

case ${1:-} in
  "") set_up ;;
  wheels) collect_wheels "${2:?in which folder}" ;;
  *) fail "setup.sh: expected nothing or: wheels DIR, got $1" ;;
esac
