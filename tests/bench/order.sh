#!/usr/bin/env bash
# Which functions a plain init, an agent at work and a candidate run, in that order, each once: written to
# packaging/functions.order, by which the linker lays them beside each other (build.rs). First what they run at work,
# again and again; then what a start, a question or a stop needs once, for the agent lets go of that (memory.rs).
# Recorded under callgrind from real runs of a binary with symbols. Names that a later build doesn't know are passed
# over: a stale list costs memory, nothing else.
#
#   BINARY=... SERVERS=... tests/bench/order.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=$(realpath "${BINARY:?a release binary with symbols}")
servers=$(realpath "${SERVERS:?a folder with consul and etcd35}")
list=packaging/functions.order
name=order
# shellcheck source=tests/bench/callgrind.sh
source tests/bench/callgrind.sh

# record NAME SECONDS ARGUMENT...: pilotfish as PID 1, told to stop after so long.
record() {
    local name=$1 seconds=$2
    shift 2
    under_callgrind "$name" "$work/$name.out" --demangle=no --dump-before=dl_iterate_phdr \
        --dump-before='*drop_in_place*hyper..server..conn..http1..Connection*' -- "$binary" "$@"
    sleep "$seconds"
    during "$name"
    pkill -TERM --parent "$namespace" || true
    awaited
    # One file a process: the agent's own, and those of its children that don't execute another program.
    ls "$work/$name".[0-9]* >/dev/null
}

# during NAME: what is asked of it before it is told. The record is cut where the start is forgotten, and where it has
# answered a question: between the first two it was only at work.
during() {
    local cuts
    case $1 in
        plain) ;;
        *)
            "$binary" -c "$work/$1.toml" status >/dev/null 2>&1 || true
            sleep 12
            cuts=$(ls "$work/$1.1".[0-9]* | wc -l)
            "$binary" -c "$work/$1.toml" status >/dev/null 2>&1 || true
            sleep 1
            mv "$work/$1.1.$((cuts + 1))" "$work/$1.at-work"
            curl -s -o /dev/null --max-time 20 http://127.0.0.1:9599/metrics || true
            curl -s -o /dev/null --max-time 20 http://127.0.0.1:9599/status || true
            "$binary" -c "$work/$1.toml" health >/dev/null 2>&1 || true
            "$binary" -c "$work/$1.toml" status >/dev/null 2>&1 || true
            sleep 3
            ;;
    esac
}

# config NAME BACKEND: an agent with a bit of everything that agents do again and again.
config() {
    printf 'hello {{ services | length }}\n' >"$work/template"
    cat >"$work/$1.toml" <<TOML
[process]
exec = ["sh", "-c", "while :; do sleep 0.5; done"]
[control]
socket = "$work/$1.sock"
[telemetry]
listen = "127.0.0.1:9599"
[catalog]
$2
[[service]]
name = "web"
port = 80
address = ["static:127.0.0.1"]
[[health]]
name = "http"
http = "http://127.0.0.1:9599/metrics"
interval = "1s"
[[health]]
name = "exec"
exec = ["true"]
interval = "1s"
[[watch]]
service = "web"
template = { source = "$work/template", destination = "$work/$1.rendered" }
on_change = { exec = ["true"] }
$3
TOML
}

"$servers/consul" agent -dev -client 127.0.0.1 -http-port 8599 -dns-port -1 -grpc-port -1 -server-port 8598 \
    -serf-lan-port 8597 -serf-wan-port -1 -log-level err >"$work/consul.out" 2>&1 &
pids+=("$!")
"$servers/etcd35" --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:8596 --log-level error \
    --advertise-client-urls http://127.0.0.1:8596 --listen-peer-urls http://127.0.0.1:8595 >"$work/etcd.out" 2>&1 &
pids+=("$!")
mkdir "$work/shared"
sleep 4

election=$'[election]\nname = "lead"\n[hooks]\non_promote = { exec = ["true"] }\non_demote = { exec = ["true"] }'
declare -A stores=(
    [consul]=$'backend = "consul"\naddress = "http://127.0.0.1:8599"'
    [local]=$'backend = "local"\nshared = true\ndirectory = "'"$work/shared"'"'
    [etcd]=$'backend = "etcd"\nendpoints = ["http://127.0.0.1:8596"]'
)

record plain 4 -- sh -c 'trap "exit 3" TERM; (sleep 0.1 &); while :; do sleep 0.2; done'
for store in consul local etcd; do
    config "agent-$store" "${stores[$store]}" ""
    record "agent-$store" 12 -c "$work/agent-$store.toml"
    config "candidate-$store" "${stores[$store]}" "$election"
    record "candidate-$store" 15 -c "$work/candidate-$store.toml"
done

# What callgrind writes last has the name without a number: of the plain init, all that comes after its start.
files=("$work/plain.1" "$work/plain.1.1")
agents=({agent,candidate}-{consul,local,etcd})
for name in "${agents[@]}"; do files+=("$work/$name.at-work"); done
for name in "${agents[@]}"; do files+=("$work/$name".[0-9]*); done
grep -hoE '^c?fn=\([0-9]+\) .+$' "${files[@]}" | sed -E "s/^c?fn=\([0-9]+\) //; s/'[0-9]+$//" |
    awk '/^[A-Za-z_.$][A-Za-z0-9_.$]*$/ && !seen[$0]++' >"$work/order"
mv "$work/order" "$list"
echo "$list: $(wc -l <"$list") functions"
