#!/usr/bin/env bash
# How many instructions the agent spends: on a plain init's start and end, an orphan, a check, a change of a watch, a
# second of leading. Counted by callgrind, so that a busy machine counts the same as one at rest. Each may be a
# quarter more than tests/bench/instructions.txt says; BLESS=1 writes that file anew.
#
#   PILOTFISH=... SERVERS=... [BLESS=1] tests/bench/instructions.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
servers=$(realpath "${SERVERS:?a folder with consul}")
blessed=tests/bench/instructions.txt
name=instructions
# shellcheck source=tests/bench/callgrind.sh
source tests/bench/callgrind.sh

# begin NAME ARGUMENT...: pilotfish as PID 1, counted; `namespace` is what runs it.
begin() {
    local name=$1
    shift
    under_callgrind "$name" "$work/$name.log" -- "$binary" "$@"
}

# counted NAME: what PID 1 spent until its end, which is awaited for a minute.
counted() {
    local name=$1
    awaited
    sed -n 's/^\(summary\|totals\): //p' "$work/$name.1" | head -n 1
}

# agent NAME SECONDS [DURING]: an agent on NAME.toml, told to stop after so long; `total` is what it spent. `done` is
# how often the metric named by `counter` says it did the thing.
agent() {
    local name=$1 seconds=$2
    begin "$name" -c "$work/$name.toml"
    for _ in $(seq 200); do
        curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$door/readyz" && break
        sleep 0.1
    done
    [ -z "${3:-}" ] || "$3"
    sleep "$seconds"
    done=$(curl -s --max-time 20 "http://127.0.0.1:$door/metrics" | sed -n "s/^${counter:-nothing}{.*} //p" | awk '{ n += $1 } END { print n + 0 }')
    pkill -TERM --parent "$namespace" || true
    total=$(counted "$name")
}

door=18599
config() { # NAME MORE
    cat >"$work/$1.toml" <<TOML
[process]
exec = ["sleep", "600"]
[control]
socket = "$work/$1.sock"
[telemetry]
listen = "127.0.0.1:$door"
[catalog]
backend = "consul"
address = "http://127.0.0.1:18600"
$2
TOML
}

"$servers/consul" agent -dev -client 127.0.0.1 -bind 127.0.0.1 -http-port 18600 -dns-port -1 -grpc-port -1 -server-port 18601 \
    -serf-lan-port 18602 -serf-wan-port -1 -log-level err >"$work/consul.log" 2>&1 &
pids+=("$!")
for _ in $(seq 100); do
    "$servers/consul" catalog nodes -http-addr 127.0.0.1:18600 2>/dev/null | grep -q . && break
    sleep 0.1
done
say() { printf '%s %s\n' "$1" "$2" | tee -a "$work/counted"; }

begin start -- true
start=$(counted start)
say start "$start"

# One at a time: how many come together would be chance.
orphans=300
# shellcheck disable=SC2016 # for the shell that leaves them
begin orphans -- sh -c 'i=0; while [ $i -lt '$orphans' ]; do (true &); sleep 0.02; i=$((i + 1)); done'
say orphan $((($(counted orphans) - start) / orphans))

counter=
config idle ''
agent idle 10
idle=$total

counter=pilotfish_check_runs_total
config http $'[[health]]\nhttp = "http://127.0.0.1:18600/v1/status/leader"\ninterval = "50ms"'
agent http 10
say check-http $(((total - idle) / done))

config exec $'[[health]]\nexec = ["true"]\ninterval = "50ms"'
agent exec 10
say check-exec $(((total - idle) / done))

counter=pilotfish_watch_changes_total
change() {
    local i
    for i in $(seq 40); do
        "$servers/consul" kv put -http-addr 127.0.0.1:18600 app/colour "$i" >/dev/null
        sleep 0.3
    done
}
config watch $'[[watch]]\nkey = "app/colour"\non_change = { exec = ["true"] }'
agent watch 2 change
say change $(((total - idle) / done))

counter=
config leader $'[election]\nname = "lead"\nlease = "15s"'
agent leader 5
shorter=$total
agent leader 25
say second-of-leading $(((total - shorter) / 20))

if [ -n "${BLESS:-}" ]; then
    mv "$work/counted" "$blessed"
    exit
fi
awk '
    NR == FNR { allowed[$1] = $2; next }
    !($1 in allowed) { print "instructions: " $1 " is new: BLESS=1"; bad = 1; next }
    $2 > allowed[$1] * 1.25 { printf "instructions: %s: %d, where %d were blessed\n", $1, $2, allowed[$1]; bad = 1 }
    END { exit bad }' "$blessed" "$work/counted"
