#!/usr/bin/env bash
# Installs the project and the matching torch / torchrec / fbgemm triple into a virtual environment.
#   launch/install.sh [VENV]          PYTHON=python3.11 EXTRAS=launch,dev by default
# BUILD=cuda or cpu; by default CUDA builds where nvidia-smi sees a GPU, CPU builds elsewhere. pip's own settings
# (PIP_INDEX_URL, ...) apply.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3.11}
extras=${EXTRAS-launch,dev}
build=${BUILD:-cpu}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "install: Python 3.11 or newer is needed, '$python' is $("$python" --version 2>&1)" >&2; exit 2; }
if [ -z "${BUILD:-}" ] && command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    build=cuda
fi
case $build in
cuda | cpu) ;;
*) echo "install: BUILD is '$build', expected cuda or cpu" >&2; exit 2 ;;
esac
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

"$venv/bin/pip" install --quiet -e ".[$build${extras:+,$extras}]"
if [ "$build" = cpu ]; then
    "$venv/bin/pip" install --quiet --no-deps torchrec==1.8.0
fi
