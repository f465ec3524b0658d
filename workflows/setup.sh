#!/usr/bin/env bash
# Builds the environment in $VENV from requirements.lock. Called by make; safe to run again after any failure.
set -euo pipefail

PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}
BUILD_TOOLS='^(setuptools|wheel|ninja|psutil|packaging)=='
NEED_KIB=$((4 * 1024 * 1024))

fail() { printf '\nmake: %s\n' "$@" >&2; exit 1; }
step() { printf '==> %s\n' "$1"; }

check_machine() {
  command -v "$PYTHON" >/dev/null ||
    fail "expected $PYTHON, found none. Install CPython 3.11 with its headers (Debian: apt-get install python3.11-dev python3.11-venv), or name it: make PYTHON=/path/to/python3.11"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail "$PYTHON is $("$PYTHON" --version 2>&1); the pinned versions need CPython 3.11. Name one: make PYTHON=/path/to/python3.11"
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$PYTHON has no venv module. Install it (Debian: apt-get install python3.11-venv)."
  command -v "${CXX:-g++}" >/dev/null ||
    fail "expected a C++ compiler for mmcv's operators, found no ${CXX:-g++}. Install one (Debian: apt-get install g++), or name it: make CXX=/path/to/compiler"
  local header
  header=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || fail "expected $header for mmcv's operators, found none. Install it (Debian: apt-get install python3.11-dev)."
  local free
  free=$(df -Pk . | awk 'NR == 2 {print $4}')
  [ "$free" -ge "$NEED_KIB" ] ||
    fail "expected $((NEED_KIB / 1024)) MiB of free disk for the environment (more if pip installs torch with CUDA), found $((free / 1024)) MiB. Make room and run make again."
}

check_venv() {
  local version
  version=$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [ "$version" = 3.11 ] ||
    fail "$VENV has Python $version, but the pinned versions need Python 3.11; remove it (rm -r $VENV) and run make again."
  "$VENV/bin/python" -c 'import pip' 2>/dev/null ||
    fail "$VENV has no pip (uv creates such environments); remove it (rm -r $VENV) and run make again."
}

# pip's own messages are kept; ours says what to do.
install() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check --quiet "$@" ||
    fail "pip could not install ${*: -1}; its message is above. Check the network and the disk, then run make again: finished steps are kept."
}

pins() { grep -E "$1" requirements.lock; }

build_mmcv() {
  "$VENV/bin/python" -c 'import mmcv.ops' 2>/dev/null && return
  step "mmcv with its compiled operators: 11 minutes on 2 cores the first time on a machine, seconds after (pip keeps the wheel)"
  local log=$VENV/mmcv-build.log started=$SECONDS
  MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} "$VENV/bin/python" -m pip install --verbose \
    --disable-pip-version-check --no-build-isolation --no-deps "$(pins '^mmcv==')" >"$log" 2>&1 &
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
    sys.exit(f"mmcv's compiled NMS: expected boxes [0, 2], got {kept.tolist()}; delete .venv and run make again")
if torch.cuda.is_available() and get_compiling_cuda_version() == "not available":
    sys.exit("this machine has a GPU, but the mmcv wheel in pip's cache was built without CUDA: "
             "run `pip cache remove mmcv`, put nvcc on the PATH, delete .venv and run make again")
PYTHON
}

check_machine
[ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c '' 2>/dev/null || { step "virtual environment in $VENV"; "$PYTHON" -m venv --clear "$VENV"; }
check_venv
export PIP_USER=0  # pip refuses PIP_USER=1, and `user = true` in its configuration, in a virtual environment
step "build tools and torch"
install $(pins "$BUILD_TOOLS")
install "$(pins '^torch==')"
build_mmcv
step "everything else in requirements.lock"
install --no-deps --no-build-isolation --requirement requirements.lock
install --no-deps --no-build-isolation --editable .
check_environment || fail "the environment is incomplete; see the message above"
step "ready"
