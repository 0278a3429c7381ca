#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it or takes the one that is there,
# installs this checkout on all its workers, starts the same run on each, shows
# the log, and begins again after a preemption. docs/launching.md is the guide.
#
#   bash scripts/tpu_pod.sh run --name=NAME --zone=ZONE --type=v5litepod-16 \
#       [--spot] [--dry-run] -- \
#       --gin_file=MY.gin --gin.MODEL_DIR=gs://BUCKET/runs/mine
#   bash scripts/tpu_pod.sh logs|stop|status|delete --name=NAME --zone=ZONE
#
# What follows `--` are the arguments of `flan-jax train`.
#
#   --project=P       the project (default: gcloud's)
#   --version=V       the TPU VMs' software (default: as the type needs)
#   --restarts=N      how often to begin again (default: 100)
#   --env=NAME=VALUE  set for the run; repeatable
#   --dry-run         print the commands, and run none
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
}

fail() {
  echo "tpu_pod.sh: error: $*" >&2
  exit 2
}

command="${1:-}"
[ $# -gt 0 ] && shift
name='' zone='' type='' project='' version='' restarts=100 spot=0 dry_run=0
environment=()
train=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name="${1#*=}" ;;
    --zone=*) zone="${1#*=}" ;;
    --type=*) type="${1#*=}" ;;
    --project=*) project="${1#*=}" ;;
    --version=*) version="${1#*=}" ;;
    --restarts=*) restarts="${1#*=}" ;;
    --env=*) environment+=("${1#*=}") ;;
    --spot) spot=1 ;;
    --dry-run | --dry_run) dry_run=1 ;;
    --)
      shift
      train=("$@")
      break
      ;;
    *) fail "unknown argument $1; see the top of scripts/tpu_pod.sh" ;;
  esac
  shift
done

case "$command" in
  run | logs | stop | status | delete) ;;
  '' | -h | --help | help)
    usage
    exit 0
    ;;
  *) fail "unknown command $command; there are run, logs, stop, status, delete" ;;
esac
[ -n "$name" ] || fail '--name=NAME is needed'
[ -n "$zone" ] || fail '--zone=ZONE is needed, such as us-west4-a'
if [ "$command" = run ]; then
  [ -n "$type" ] || fail '--type=TYPE is needed, such as v5litepod-16 or v4-8'
  [ "${#train[@]}" -gt 0 ] ||
    fail 'the arguments of flan-jax train are needed, after --'
  case " ${train[*]}" in
    *MODEL_DIR=gs://*) ;;
    *) echo 'tpu_pod.sh: note: no --gin.MODEL_DIR=gs://...: a MODEL_DIR on the' \
      'workers is lost with them' >&2 ;;
  esac
fi
if [ -z "$version" ]; then
  case "$type" in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) version=tpu-ubuntu2204-base ;;
  esac
fi

where=("--zone=$zone")
if [ -n "$project" ]; then
  where+=("--project=$project")
fi

# A command is printed as it could be typed, and then run.
say() {
  local line='+'
  local word
  for word in "$@"; do
    line+=" $(printf '%q' "$word")"
  done
  echo "$line" >&2
}

do_() {
  say "$@"
  [ "$dry_run" = 1 ] || "$@"
}

# On worker $1 (or all), the command line $2.
on_worker() {
  do_ gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" \
    "--worker=$1" "--command=$2"
}

# The slice's state, nothing where there is none.
state() {
  say gcloud compute tpus tpu-vm describe "$name" "${where[@]}" \
    '--format=value(state)'
  [ "$dry_run" = 1 ] ||
    gcloud compute tpus tpu-vm describe "$name" "${where[@]}" \
      '--format=value(state)' 2>/dev/null || true
}

create() {
  local options=()
  if [ "$spot" = 1 ]; then
    options+=(--spot)
  fi
  do_ gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
    "--accelerator-type=$type" "--version=$version" "${options[@]}"
}

delete() {
  do_ gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
}

# Sees to it that the slice is there and ready.
ensure_slice() {
  local now
  while true; do
    now="$(state)"
    case "$now" in
      READY)
        echo "== $name is there already" >&2
        return
        ;;
      '')
        echo "== creating $name, $type" >&2
        create
        return
        ;;
      PREEMPTED | TERMINATED | SUSPENDED)
        echo "== $name is $now: it makes way for a new one" >&2
        delete
        ;;
      STOPPED)
        do_ gcloud compute tpus tpu-vm start "$name" "${where[@]}"
        return
        ;;
      *)
        echo "== $name is $now; waiting" >&2
        sleep "${TPU_POD_POLL:-15}"
        ;;
    esac
  done
}

# Copies this checkout (what git tracks, with changes) and installs it.
install() {
  local archive revision
  archive="$(mktemp -t flan_jax.XXXXXX.tar.gz)"
  revision="$(git stash create)"
  echo '== installing this checkout on all workers' >&2
  do_ git archive --format=tar.gz --output="$archive" "${revision:-HEAD}"
  do_ gcloud compute tpus tpu-vm scp "$archive" "$name:flan_jax.tar.gz" \
    "${where[@]}" --worker=all
  rm -f "$archive"
  # uv brings a Python of its own: that of some images is too old.
  # shellcheck disable=SC2016
  on_worker all 'set -e
mkdir -p ~/flan_jax && tar -xzf ~/flan_jax.tar.gz -C ~/flan_jax
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
[ -x ~/flan_env/bin/python ] || uv venv --quiet --python 3.12 ~/flan_env
uv pip install --quiet --python ~/flan_env/bin/python "$HOME/flan_jax[tpu,gcs,seqio]"'
}

# Starts the run on every worker, unless it runs there already. It does not end
# with the connection; its exit code is left in a file.
start() {
  local line='' word
  for word in "${environment[@]}"; do
    line+="export $(printf '%q' "$word"); "
  done
  # shellcheck disable=SC2016
  line+='"$HOME"/flan_env/bin/flan-jax train'
  for word in "${train[@]}"; do
    line+=" $(printf '%q' "$word")"
  done
  echo '== starting the run on all workers' >&2
  on_worker all "cd ~/flan_jax
if [ -e ~/run.pid ] && kill -0 \"\$(cat ~/run.pid)\" 2>/dev/null; then exit 0; fi
rm -f ~/run.exit
nohup bash -c $(printf '%q' "$line; echo \$? > ~/run.exit") > ~/run.log 2>&1 &
echo \$! > ~/run.pid"
}

# Shows worker 0's log until the run ends or the connection breaks.
show_log() {
  # shellcheck disable=SC2016
  on_worker 0 'tail -n +1 -F --pid="$(cat ~/run.pid)" ~/run.log 2>/dev/null'
}

# Worker 0's exit code, 'stopped' where a signal ended the run before its last
# step, nothing where there is neither.
exit_code() {
  on_worker 0 'if tail -n 5 ~/run.log 2>/dev/null | grep -q "^told to stop"
then echo stopped; else cat ~/run.exit 2>/dev/null; fi' || true
}

# As a preemption does: the run saves its step and ends.
end_run() {
  # shellcheck disable=SC2016
  on_worker all 'pkill -TERM -P "$(cat ~/run.pid)" &&
  timeout 120 tail -f --pid="$(cat ~/run.pid)" /dev/null; true'
}

run() {
  local left="$restarts" code now
  while true; do
    ensure_slice
    if install && start && show_log; then
      code="$(exit_code)"
    else
      code=''
    fi
    if [ "$dry_run" = 1 ]; then
      echo '== after a preemption, or where a worker was lost, the same again' \
        "after:" >&2
      state
      delete
      return
    fi
    now="$(state)"
    if [ "$now" = READY ]; then
      case "$code" in
        0)
          echo '== the run has ended well' >&2
          return
          ;;
        '' | stopped | 75 | 137 | 139 | 143) ;; # A worker, or the connection, was lost.
        *)
          echo "tpu_pod.sh: error: the run ended with code $code; its log is" \
            'above' >&2
          return "$code"
          ;;
      esac
    fi
    if [ "$left" -le 0 ]; then
      echo "tpu_pod.sh: error: given up after $restarts restarts" >&2
      return 1
    fi
    left=$((left - 1))
    echo "== $name is ${now:-gone}, code ${code:-unknown}: beginning again" \
      "($left restarts are left)" >&2
    if [ "$now" = READY ]; then
      # Those that wait for the lost one must not hold the chips.
      end_run || true
    fi
    sleep "${TPU_POD_POLL:-15}"
  done
}

case "$command" in
  run) run ;;
  logs) show_log ;;
  stop) end_run ;;
  status) do_ gcloud compute tpus tpu-vm describe "$name" "${where[@]}" ;;
  delete) delete ;;
esac
