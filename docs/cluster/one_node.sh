#!/bin/bash
# One node, all of its GPUs.     sbatch docs/cluster/one_node.sh cifar100-resnet
#SBATCH --job-name=kdlib
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120    # two minutes before the end: checkpoints are written
set -u
: "${KDLIB_RUNS:?set it to the folder of runs}" "${KDLIB_DATA:?set it to the folder of data sets}"
export OMP_NUM_THREADS=1 TMPDIR="/tmp/kd$SLURM_JOB_ID"    # short: Ray's socket paths have at most 107 bytes
mkdir -p "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
kdlib train "$@" --profile paper --runs-dir "$KDLIB_RUNS" --engine ray --device cuda &
trap 'kill -TERM $!' TERM
wait $! || wait $!    # the signal ends the first wait; the second one is for kdlib
