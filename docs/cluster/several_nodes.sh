#!/bin/bash
# One Ray cluster over several nodes.     sbatch docs/cluster/several_nodes.sh cifar100-resnet
#SBATCH --job-name=kdlib
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
set -eu
: "${KDLIB_RUNS:?set it to a folder that all nodes share}" "${KDLIB_DATA:?set it to the folder of data sets}"
home="$(mktemp -d "$KDLIB_RUNS/.ray-$SLURM_JOB_ID-XXXX")"    # shared: its token lets the nodes in, and nobody else
mkdir -m 700 "$home/.ray"
(umask 077; python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$home/.ray/auth_token")
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$home/.ray/auth_token"
echo '{}' > "$home/ray_bootstrap_config.yaml"    # Ray then asks no metadata service which cloud it is on
trap 'rm -rf "$home"' EXIT

head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
address="$(srun --overlap -N 1 -n 1 -w "$head" hostname -i | awk '{print $1}'):6379"
node() { srun --overlap -N 1 -n 1 -w "$1" env HOME="$home" ray start --block --temp-dir "/tmp/kd$SLURM_JOB_ID" "${@:2}" & }
node "$head" --head --port 6379 --include-dashboard=false --node-ip-address "${address%:*}"
sleep 30
for name in $(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n +2); do node "$name" --address "$address"; done
sleep 30

# Its driver runs on the head's node. Nodes that come later are used; lost ones are done without.
srun --overlap -N 1 -n 1 -w "$head" env RAY_ADDRESS="$address" \
  kdlib train "$@" --profile paper --runs-dir "$KDLIB_RUNS" --engine ray --device cuda &
driver=$!
trap 'kill -TERM $driver' TERM
wait $driver || wait $driver
