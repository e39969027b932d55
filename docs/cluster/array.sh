#!/bin/bash
# The default: independent nodes that share the folder of runs. Start and end any of them at any time.
#                                sbatch docs/cluster/array.sh cifar100-resnet cifar10-resnet
#SBATCH --job-name=kdlib
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
set -u
: "${KDLIB_RUNS:?set it to a folder that all nodes share}" "${KDLIB_DATA:?set it to the folder of data sets}"
export OMP_NUM_THREADS=1 TMPDIR="/tmp/kd$SLURM_JOB_ID"
mkdir -p "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
kdlib train "$@" --profile paper --runs-dir "$KDLIB_RUNS" --engine ray --device cuda --budget 3.9h &
trap 'kill -TERM $!' TERM
wait $! || wait $!
