#!/usr/bin/env bash
# The main job in small: generated data, TorchX launch of two processes, three seeds of the control and of MultiBalance
# as published and as recommended, the report.
#   launch/smoke.sh [RUNS]            runs/ by default
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs}
export PATH="$PWD/.venv/bin:$PATH"

if [ ! -f "$runs/smoke-data/schema.json" ]; then
    python -m data_prep.synthetic --out "$runs/smoke-data" --rows 400000
fi
rm -rf "$runs/smoke"
processes=2
gpus=0
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    gpus=$(nvidia-smi -L | grep -c GPU)
    processes=$((gpus < 2 ? gpus : 2))
fi
torchx run -s local_cwd components/compare.py:compare -j "1x$processes" --gpu "$((gpus ? processes : 0))" -- \
    --data "$runs/smoke-data" --out "$runs/smoke" --arms mean multibalance multibalance_recommended --seeds 3

# Once more without the launcher's prefixes.
printf '\n%s\n\nreport: %s\n' "$(cat "$runs/smoke/report.md")" "$runs/smoke/report.html"
