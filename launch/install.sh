#!/usr/bin/env bash
# Installs the project and the matching torch / torchrec / fbgemm triple into a virtual environment.
#   launch/install.sh [VENV]          PYTHON=python3.11 by default
# CUDA builds where nvidia-smi sees a GPU, CPU builds elsewhere. pip's own settings (PIP_INDEX_URL, ...) apply.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3.11}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "install: Python 3.11 or newer is needed, '$python' is $("$python" --version 2>&1)" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    "$venv/bin/pip" install --quiet -e ".[cuda,launch,dev]"
else
    "$venv/bin/pip" install --quiet -e ".[cpu,launch,dev]"
    "$venv/bin/pip" install --quiet --no-deps torchrec==1.8.0
fi
