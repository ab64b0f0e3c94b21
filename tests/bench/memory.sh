#!/usr/bin/env bash
# What an agent at work keeps in memory, on a real Consul server and on `local`: a service, a check and a watch a second,
# the telemetry door; then with an election and its guard; then ten at once. Prints figures, and whether each goal was
# met.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-memory.XXXXXX")
declare -a started=()
# end_all: no two copies of a binary may run while one is measured, or they share its pages in the PSS.
end_all() {
    local pid
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
    done
    started=()
}

server=
# shellcheck disable=SC2317 # called by the trap
end() {
    end_all
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}

trap end EXIT
trap 'exit 130' INT TERM

# A copy that is on disk, as an image's is: see run.sh.
cp "$(realpath "${PILOTFISH:?the pilotfish binary to measure}")" "$work/pilotfish"
pilotfish=$work/pilotfish
sync "$pilotfish"
tests/get-servers.sh .servers
base=20400
.servers/consul agent -dev -client 127.0.0.1 -bind 127.0.0.1 -http-port $base -dns-port -1 -grpc-port -1 \
    -server-port $((base + 1)) -serf-lan-port $((base + 2)) -serf-wan-port -1 -log-level err >"$work/consul.log" 2>&1 &
server=$!
for _ in $(seq 100); do
    .servers/consul catalog nodes -http-addr "127.0.0.1:$base" 2>/dev/null | grep -q . && break
    sleep 0.1
done
mkdir "$work/shared"

# config NUMBER STORE [ELECTION]
config() {
    local port=$((base + 10 + $1)) catalog='backend = "local"
directory = "'$work/shared'"
shared = true'
    [ "$2" = local ] || catalog='backend = "consul"
address = "http://127.0.0.1:'$base'"'
    cat >"$work/$1.toml" <<TOML
[process]
exec = ["sleep", "600"]
[[service]]
name = "worker"
id = "worker-$1"
port = $port
address = ["static:127.0.0.1"]
[[health]]
name = "door"
tcp = "127.0.0.1:$port"
interval = "1s"
[[watch]]
name = "workers"
service = "worker"
on_change = { exec = ["true"] }
[telemetry]
listen = "127.0.0.1:$port"
[catalog]
$catalog
[control]
socket = "$work/$1.sock"
[log]
level = "warn"
TOML
    [ -z "${3:-}" ] || printf '[election]\nname = "lead"\n[hooks]\non_promote = { exec = ["true"] }\n' >>"$work/$1.toml"
}

# memory PID...: PSS and private dirty in KiB, and threads, of all of them.
memory() {
    local pid
    for pid in "$@"; do
        awk -v threads="$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)" \
            '/^Pss:/ { pss = $2 } /^Private_Dirty:/ { dirty = $2 } END { print pss, dirty, threads }' "/proc/$pid/smaps_rollup"
    done | awk '{ pss += $1; dirty += $2; threads += $3 } END { print pss, dirty, threads }'
}

# launch NUMBER: sets pids to those of the agent, and of its guard where it has one; main is none of them.
launch() {
    unshare --pid --fork --mount-proc --kill-child "$pilotfish" -c "$work/$1.toml" >>"$work/log" 2>&1 </dev/null &
    started+=($!)
    disown $!
    local agent="" child
    while [ -z "$agent" ]; do
        sleep 0.01
        agent=$(cat "/proc/${started[-1]}/task/${started[-1]}/children")
    done
    agent=${agent% }
    pids=("$agent")
    sleep "${2:-5}"
    for child in $(cat "/proc/$agent/task/$agent/children"); do
        [ "$(readlink "/proc/$child/exe")" != "$pilotfish" ] || pids+=("$child")
    done
}

goal() { # goal TEXT VALUE LIMIT
    echo "  goal: $1: $2 KiB, at most $3: $([ "$2" -le "$3" ] && echo met || echo MISSED)"
}

echo "memory of an agent at work, KiB"
printf '  %-44s %8s %14s %8s\n' "" PSS "private dirty" threads
goals=""
for store in consul local; do
    config 0 $store
    launch 0
    read -r pss dirty threads < <(memory "${pids[@]}")
    printf '  %-44s %8d %14d %8d\n' "$store, alone" "$pss" "$dirty" "$threads"
    [ $store = local ] || goals+=$(goal "alone" "$pss" 3072)$'\n'
    end_all
    config 0 $store election
    launch 0 8
    read -r pss dirty threads < <(memory "${pids[@]}")
    printf '  %-44s %8d %14d %8d\n' "$store, leading, with its guard" "$pss" "$dirty" "$threads"
    [ $store = local ] || goals+=$(goal "leading, with its guard" "$pss" 3891)$'\n'
    end_all
    ten=()
    for number in 0 1 2 3 4 5 6 7 8 9; do
        config $number $store
        launch $number 0.1
        ten+=("${pids[0]}")
    done
    sleep 5
    read -r pss dirty threads < <(memory "${ten[@]}")
    printf '  %-44s %8d %14d %8d\n' "$store, each of ten" $((pss / 10)) $((dirty / 10)) $((threads / 10))
    end_all
done
printf '%s' "$goals"
