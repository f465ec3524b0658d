# What the profile's own `sbatch` and `sacct` share. The profile puts this folder in front of the PATH.
here=$(dirname "$(realpath "$0")")
PATH=:$PATH: PATH=${PATH//":$here:"/:} PATH=${PATH#:} PATH=${PATH%:} # from here on, SLURM's own commands

# The value after an option of this call; nothing if it is not there.
value_of() {
  local option=$1
  shift
  while [ $# -gt 1 ]; do
    [ "$1" != "$option" ] || { echo "$2" && return; }
    shift
  done
}

# Numbers of the jobs that one call of Snakemake has submitted, by SLURM's name for that call.
job_list() { echo ".snakemake/slurm_logs/$1.jobs"; }

# For the user: the plugin keeps stderr of its commands to itself.
report_wait() {
  { echo "SLURM's controller does not answer ($(date +%T)). Asking again; running jobs are not affected." \
    >/dev/tty; } 2>/dev/null || true
  sleep 15
}
