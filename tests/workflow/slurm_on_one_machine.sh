#!/usr/bin/env bash
# A real SLURM on this one machine, with pretend GPUs: for the tests of the profile, and to try the profile out.
#   slurm_on_one_machine.sh install          Debian's packages; as root
#   slurm_on_one_machine.sh start FOLDER     munged, slurmctld and slurmd on loopback
#   slurm_on_one_machine.sh fail FOLDER      the node and all that runs on it die at once, as without power
#   slurm_on_one_machine.sh boot FOLDER      the node comes back
#   slurm_on_one_machine.sh crash FOLDER     the controller dies; the node and its jobs go on
#   slurm_on_one_machine.sh restart FOLDER   the controller comes back
#   slurm_on_one_machine.sh stop FOLDER      ends all that start started
# All files are in FOLDER, which a link in /run leads SLURM's commands to: not all of them inherit the environment.
# It does not start beside another SLURM; one of its own that was left behind by a killed test it ends first.
set -euo pipefail

GPUS=(/dev/zero /dev/full) # any device file will do for one GPU each; a regular file will not
NODE=localhost
CLUSTER=one-machine
LINK=/run/slurm/conf # where SLURM's commands look if there is nothing in /etc/slurm

fail() { printf 'slurm_on_one_machine: %s\n' "$*" >&2; exit 1; }

refuse_beside_another() {
  [ ! -e /etc/slurm/slurm.conf ] || fail "this machine has a SLURM, in /etc/slurm/slurm.conf"
  [ -e "$LINK/slurm.conf" ] || return 0
  local owner
  owner=$(cat "$LINK/owner" 2>/dev/null) || fail "this machine has a SLURM, in $(realpath "$LINK")"
  ! kill -0 "$owner" 2>/dev/null || fail "process $owner has a SLURM here, in $(realpath "$LINK"); stop it first"
}

install() {
  [ "$(id -u)" -eq 0 ] || fail "root alone can install and start SLURM"
  refuse_beside_another
  local program missing=
  for program in slurmctld slurmd munged sbatch; do command -v "$program" >/dev/null || missing=$program; done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "no $missing here, and no apt-get to install it"
  # RUNLEVEL: the packages' own services would start with no configuration, and fail.
  export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
  apt-get install --yes --quiet --no-install-recommends slurm-wlm munge ||
    { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends slurm-wlm munge; }
}

free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 10)); done
  echo "$port"
}

configure() {
  mkdir -p "$FOLDER/ctld"
  chmod 700 "$FOLDER"
  : >"$FOLDER/gres.conf"
  echo "AutoDetect=off" >>"$FOLDER/gres.conf"
  local device
  for device in "${GPUS[@]}"; do echo "NodeName=$NODE Name=gpu Type=pretend File=$device" >>"$FOLDER/gres.conf"; done
  cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=$CLUSTER
SlurmctldHost=$NODE(127.0.0.1)
SlurmctldPort=$(free_port 16817)
SlurmdPort=$(free_port 16818)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny  # loopback alone
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is put back into the queue waits until its old credential has expired: 2 minutes, if nothing is said.
AuthInfo=socket=$FOLDER/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$FOLDER/ctld
SlurmdSpoolDir=$FOLDER/d
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
MailProg=/bin/true
# Containers often have no cgroups, and no database: neither is needed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=86400                                     # squeue remembers how each job ended
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500                                    # else a job that names no memory takes all of it
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=5,bf_interval=2,preempt_youngest_first
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=5
SlurmdTimeout=30
SlurmdParameters=config_overrides                   # CPUs and memory are pretended too
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=8 RealMemory=512000 Gres=gpu:pretend:${#GPUS[@]} State=UNKNOWN
PartitionName=gpu Nodes=$NODE Default=YES DefaultTime=60 MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=$NODE DefaultTime=60 MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
CONF
}

start() {
  refuse_beside_another
  if [ -e "$LINK" ]; then (FOLDER=$(realpath "$LINK") && stop); fi
  configure
  echo "$PPID" >"$FOLDER/owner"
  dd if=/dev/urandom of="$FOLDER/munge.key" bs=128 count=1 status=none
  chmod 400 "$FOLDER/munge.key"
  munged --force --key-file="$FOLDER/munge.key" --socket="$FOLDER/munge.socket" --pid-file="$FOLDER/munged.pid" \
    --log-file="$FOLDER/munged.log" --seed-file="$FOLDER/munge.seed"
  restart
  mkdir -p "$(dirname "$LINK")"
  ln -sfn "$FOLDER" "$LINK"
  boot
}

crash() { kill -KILL "$(cat "$FOLDER/slurmctld.pid")"; }

restart() { slurmctld -f "$FOLDER/slurm.conf"; }

boot() {
  rm -rf "$FOLDER/d" # a node that lost power knows nothing of its jobs
  mkdir "$FOLDER/d"
  slurmd -f "$FOLDER/slurm.conf" -N "$NODE"
  local until=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$until" ]; do
    timeout 5 sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)' && return
    sleep 0.5
  done
  tail -n 5 "$FOLDER"/*.log >&2
  fail "the node did not come up within 30 s; the ends of the logs are above"
}

# Processes that have this in their environment.
marked() {
  grep --files-with-matches --null-data --line-regexp --fixed-strings "$1" /proc/[0-9]*/environ 2>/dev/null |
    cut -d/ -f3 | sort || true
}

# The daemon and its steps first, so that nobody is left to report the end of the jobs.
kill_node() {
  local jobs steps
  jobs=$(marked "SLURM_CLUSTER_NAME=$CLUSTER")
  steps=$(marked "SLURM_CONF=$FOLDER/slurm.conf" | comm -23 - <(echo "$jobs"))
  # shellcheck disable=SC2046,SC2086
  kill -KILL $(cat "$FOLDER/slurmd.pid" 2>/dev/null) $steps $jobs 2>/dev/null || true
}

fail_node() {
  kill_node
  # What the controller finds out by itself after SlurmdTimeout.
  scontrol update NodeName="$NODE" State=DOWN Reason="no power"
}

stop() {
  [ -d "$FOLDER" ] || return 0
  kill_node
  local name process
  for name in slurmctld munged; do
    process=$(cat "$FOLDER/$name.pid" 2>/dev/null) || continue
    kill "$process" 2>/dev/null || true
    for _ in $(seq 50); do
      case $(ps -o stat= -p "$process") in "" | Z*) break ;; esac
      sleep 0.1
    done
  done
  [ "$(readlink "$LINK")" != "$FOLDER" ] || rm "$LINK"
  rm -rf "$FOLDER"
}

[ $# -ge 1 ] || fail "install, start, fail, boot, crash, restart or stop"
if [ "$1" != install ]; then
  [ $# -eq 2 ] || fail "$1: in which folder?"
  FOLDER=$(realpath -m "$2")
  unset SLURM_CONF
fi
case $1 in
  install | start | boot | crash | restart | stop) "$1" ;;
  fail) fail_node ;;
  *) fail "$1: not one of install, start, fail, boot, crash, restart, stop" ;;
esac
