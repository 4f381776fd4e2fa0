#!/usr/bin/env bash
# Everything that a CUDA machine has to show, in order of importance, in at most eight minutes; no network is needed.
#
#   bash benchmarks/on_gpu.sh [BCCD folder]                 on a machine with one CUDA device
#   HARNESS_REHEARSE=1 bash benchmarks/on_gpu.sh            the same commands on the CPU, with small sizes
#
# Runs in the current environment (torch >= 2.11, torchvision >= 0.26 and the packages of pyproject.toml; $PYTHON names
# the interpreter). Each part has a limit of its own and a part that fails or runs out of time does not end the others:
# $OUT/summary.txt (default: results/gpu) says how each ended, beside the logs and tables. $SECONDS_ALLOWED (480) bounds
# the whole. The exit code is the number of parts that did not end well.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

if [[ -n ${HARNESS_REHEARSE:-} ]]; then
  DEVICE=cpu OUT=${OUT:-results/gpu-rehearsal}
  TESTS="tests/samplers/test_contract.py -k random"
  MAIN="run=smoke data.num_train=12 data.num_val=4 data.image_size=64 detector.min_size=64 run.threads=1"
  ASSIGN="--batch 2 --size 500x5 --modes eager --reps 2 --threads 1"
  STEP="--model tiny_rcnn --size 64 --batch 2 --rounds 3 --warmup 1" WARM="$STEP"
  SEEDS=0,1 JOBS=2 ITERATIONS=20
  SECONDS_ALLOWED=${SECONDS_ALLOWED:-3600} SLOWER=${SLOWER:-6} # a CPU, often a busy one
else
  DEVICE=cuda OUT=${OUT:-results/gpu}
  TESTS=$(grep -rl 'mark\.gpu' tests --include='test_*.py')
  MAIN=""
  ASSIGN="--batch 1 8 --size 8400x100 200000x20 --modes eager graph --reps 5"
  STEP="--model fasterrcnn_resnet50_fpn --size 800 --batch 4 --objects 8 --rounds 12"
  WARM="$STEP --warmup 3"
  SEEDS=0,1,2,3 JOBS=4 ITERATIONS=100
  SECONDS_ALLOWED=${SECONDS_ALLOWED:-480} SLOWER=1
fi
mkdir -p "$OUT"
: >"$OUT/summary.txt"
FAILED=0

# part SECONDS FILE COMMAND...: runs a command within its limit and what is left of the whole; keeps what it says.
part() {
  local limit=$(($1 * SLOWER)) file=$2 left=$((SECONDS_ALLOWED - SECONDS)) began=$SECONDS code=0
  shift 2
  ((left < limit)) && limit=$left
  printf '\n== %s: %s\n' "$file" "$*"
  if ((limit < 10)); then
    code="left out: no time"
  else
    timeout -k 5 "$limit" "$@" 2>&1 | tee "$OUT/$file" | tail -40
    code=${PIPESTATUS[0]}
  fi
  [[ $code == 0 ]] || FAILED=$((FAILED + 1))
  echo "$file: exit $code, $((SECONDS - began)) s of $limit" | tee -a "$OUT/summary.txt"
}

DESCRIBE='import platform, torch, torchvision
print("torch", torch.__version__, "torchvision", torchvision.__version__, "python", platform.python_version())
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device", torch.version.cuda)'

part 60 machine.txt "$PYTHON" -c "$DESCRIBE"
# shellcheck disable=SC2086  # the sizes are lists of words
{
  # 1. The contracts of every assigner, sampler and loss on the device, a synchronisation being an error.
  if [[ $DEVICE == cuda ]]; then
    part 110 gpu-tests.txt "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider $TESTS
  else
    part 110 gpu-tests.txt "$PYTHON" -m pytest -q -p no:cacheprovider $TESTS
  fi
  # 2. The main job in bf16, as a user runs it.
  part 100 main-job.txt "$PYTHON" -m harness sampler=ohem $MAIN run.precision=bf16 run.device=$DEVICE tracker=none \
    run.root="$WORK/main"
  cp "$WORK"/main/runs/*/result.json "$OUT/main-job.json"
  # 3. The step of a full-size detector against torchvision's with the same autocast: images/s, and OHEM's extra cost.
  part 60 training-step-bf16.md "$PYTHON" benchmarks/training_step.py --device $DEVICE --precision bf16 $STEP
  # 4. Target assignment against torchvision's loops, and that nothing in it waits for the device.
  part 70 target-assignment.md "$PYTHON" benchmarks/target_assignment.py --device $DEVICE --methods matcher atss ohem $ASSIGN
  # 5. The step in fp32, then with backbone and heads compiled.
  part 60 training-step-fp32.md "$PYTHON" benchmarks/training_step.py --device $DEVICE --precision fp32 $STEP
  part 100 training-step-compiled.md "$PYTHON" benchmarks/training_step.py --device $DEVICE --precision bf16 --compile $WARM
  # 6. Small runs on one device, one after another and side by side; on BCCD where its folder is given.
  for jobs in 1 $JOBS; do
    data=${1:+experiment=bccd data.root=$1 run.iterations=$ITERATIONS}
    part 80 "sweep-$jobs-at-a-time.txt" "$PYTHON" -m harness -m ${data:-$MAIN run.iterations=$ITERATIONS} seed=$SEEDS \
      hydra/sweeper=basic hydra/launcher=joblib hydra.launcher.n_jobs=$jobs run.jobs_per_device=$jobs run.threads=2 \
      run.device=$DEVICE tracker=none run.root="$WORK/sweep-$jobs"
  done
}
echo
cat "$OUT/summary.txt"
exit "$FAILED"
