#!/usr/bin/env bash
# Everything that a CUDA machine has to show, in order of importance, in about ten minutes; no network is needed.
#
#   bash benchmarks/on_gpu.sh [BCCD folder]
#
# Runs in the current environment (torch >= 2.11, torchvision >= 0.26 and the packages of pyproject.toml). Logs, tables and
# the sweep's report go to $OUT (default: results/gpu).
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-results/gpu}
mkdir -p "$OUT"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
WORK=$(mktemp -d)

section() { printf '\n== %s\n' "$1"; }

section "1. the tests that need a device"
python3 -m pytest -q -m gpu -p no:cacheprovider tests 2>&1 | tee "$OUT/gpu-tests.txt" | tail -15

section "2. the main job on CUDA in bf16"
python3 -m harness sampler=ohem run.precision=bf16 run.device=cuda tracker=none run.root="$WORK/main" 2>&1 | tee "$OUT/main-job.txt"
cp "$WORK"/main/runs/*/result.json "$OUT/main-job.json"

section "3. and 4. target assignment against torchvision, without a host synchronisation; the whole step"
python3 benchmarks/target_assignment.py --device cuda 2>&1 | tee "$OUT/target-assignment.md"
for precision in fp32 bf16; do
  python3 benchmarks/training_step.py --device cuda --precision $precision --model fasterrcnn_resnet50_fpn --size 800 2>&1 |
    tee "$OUT/training-step-$precision.md"
done

if [[ -n ${1:-} ]]; then
  section "5. a sweep on BCCD"
  python3 -m harness -m experiment=bccd data.root="$1" sampler=random,ohem_paper,matched_random,iou_balanced seed=0,1,2 \
    hydra/launcher=joblib hydra.launcher.n_jobs=4 run.device=cuda:0 run.threads=4 tracker=none run.root="$WORK/bccd" 2>&1 |
    tee "$OUT/bccd-sweep.txt"
  python3 -m harness.report "$WORK/bccd" --out "$OUT"
fi
