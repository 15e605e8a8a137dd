#!/bin/sh
# A sweep as a SLURM array, without submitit. Each element computes a share of the plan into the
# folder of --out, which all nodes see:
#
#   sbatch --array=1-8 launch/cluster/slurm-array.sh --algo=bc,dagger --env=lane_keep --out=runs/lane_keep
#
# Ask for the same number of cores each time: cells are those of a number of devices.
#SBATCH --job-name=irl_bench
#SBATCH --time=01:00:00
#SBATCH --cpus-per-task=4
#SBATCH --signal=B:TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=irl_bench-%A_%a.log

share="${SLURM_ARRAY_TASK_ID:?sbatch needs --array=1-N}/$SLURM_ARRAY_TASK_COUNT"
export IRL_BENCH_GRACE=70 # of the 90 s: how long the sweep has to reach its next checkpoint
"${PYTHON:-python}" -m irl_bench sweep "$@" --shard="$share" &
job=$!
trap 'kill -TERM "$job"' TERM # 90 s before the limit, and at a preemption

# A signal ends `wait` before the job has ended.
status=0
while kill -0 "$job" 2>/dev/null; do
    wait "$job"
    status=$?
done

# 75: stopped at a checkpoint. A job that scancel ends is no longer RUNNING, and stays ended.
if [ "$status" -eq 75 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
