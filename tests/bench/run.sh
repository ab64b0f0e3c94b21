#!/usr/bin/env bash
# Benchmarks beside tini, in one interleaved run each: what the init adds to a container's start and end, what it
# keeps in memory, and its size. Prints figures and ratios, and whether each goal was met; figures of a busy machine
# move, ratios hold better.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
rounds=${ROUNDS:-300}
tini=$(command -v tini)
tini_static=$(command -v tini-static || true)
programs=target/bench
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-bench.XXXXXX")
export WORK=$work
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

trap 'end_all; rm -rf "$work"' EXIT
trap 'exit 130' INT

isolate=(unshare --pid --fork --mount-proc --kill-child)
if ! "${isolate[@]}" true 2>/dev/null; then
    echo "bench: PID namespaces aren't allowed here (run as root)" >&2
    exit 1
fi
mkdir -p "$programs"
if [ ! -x "$programs/start" ] || [ tests/bench/start.rs -nt "$programs/start" ]; then
    rustc --edition 2024 -O -C target-feature=+crt-static -o "$programs/start" tests/bench/start.rs
fi

# What an image holds is a copy. The linker writes its file in small pieces, and the page cache keeps them as small
# pages: started from that file the init added 1.37 ms in place of the copy's 1.01. And the pages of a file not yet on
# disk count as dirty in whoever maps it.
cp "$pilotfish" "$work/pilotfish"
pilotfish=$work/pilotfish
sync "$pilotfish"

goal() { # goal TEXT VALUE LIMIT
    awk -v text="$1" -v value="$2" -v limit="$3" \
        'BEGIN { printf "  goal: %s: %s, at most %s: %s\n", text, value, limit, value <= limit ? "met" : "MISSED" }'
}

echo "start and end, $rounds interleaved rounds, each as PID 1 of its own namespace, microseconds"
"$programs/start" "$rounds" "none=" "tini=$tini --" ${tini_static:+"tini-static=$tini_static --"} "pilotfish=$pilotfish --" >"$work/start"
awk '
    { median[$1] = $2; late[$1] = $3; end[$1] = $4; order[NR] = $1 }
    END {
        printf "  %-12s %8s %8s %8s %14s %14s\n", "", "median", "90 %", "added", "end, median", "end, added"
        for (i = 1; i <= NR; i++) {
            n = order[i]
            printf "  %-12s %8d %8d %8d %14d %14d\n", n, median[n], late[n], median[n] - median["none"], end[n], end[n] - end["none"]
        }
    }' "$work/start"
ratio=$(awk '{ m[$1] = $2 } END { printf "%.2f", (m["pilotfish"] - m["none"]) / (m["tini"] - m["none"]) }' "$work/start")
goal "the plain init's added start time over tini's" "$ratio" 1.3

# child_of PID: its only child, once it is there.
child_of() {
    local status=""
    for _ in $(seq 200); do
        status=$(grep -lx "PPid:[[:space:]]*$1" /proc/[0-9]*/status 2>/dev/null | head -n 1) || true
        [ -n "$status" ] && break
        sleep 0.01
    done
    basename "$(dirname "$status")"
}
# memory PID: PSS and private dirty, KiB, and threads.
memory() {
    awk -v threads="$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l)" \
        '/^Pss:/ { pss = $2 } /^Private_Dirty:/ { dirty = $2 } END { print pss, dirty, threads }' "/proc/$1/smaps_rollup"
}
# launch COMMAND...: sets pid to the namespace's PID 1.
launch() {
    "${isolate[@]}" "$@" >>"$work/log" 2>&1 </dev/null &
    started+=($!)
    disown $! # or bash says "Killed" by itself when it is ended
    pid=$(child_of $!)
}

echo
echo "memory at rest, KiB"
printf '  %-34s %8s %14s %8s\n' "" PSS "private dirty" threads
row() { printf '  %-34s %8s %14s %8s\n' "$@"; }
launch "$tini" -- sleep 600
sleep 0.5
# shellcheck disable=SC2046
row "tini" $(memory "$pid")
if [ -n "$tini_static" ]; then
    launch "$tini_static" -- sleep 600
    sleep 0.5
    # shellcheck disable=SC2046
    row "tini-static" $(memory "$pid")
    end_all
fi
launch "$pilotfish" -- sleep 600
# At rest it is a second after its start, when it lets go of what only the start needed.
sleep 2
read -r plain dirty threads < <(memory "$pid")
row "pilotfish, plain" "$plain" "$dirty" "$threads"
plain_goal=$plain
end_all

# An agent at work: a check each second, a watch, the telemetry door, the local catalog.
work_config() { # NUMBER
    cat >"$work/$1.toml" <<TOML
[process]
exec = ["sleep", "600"]
[[service]]
name = "worker"
id = "worker-$1"
port = $((20000 + $1))
address = ["static:127.0.0.1"]
[[health]]
name = "door"
tcp = "127.0.0.1:$((20000 + $1))"
interval = "1s"
[[watch]]
name = "workers"
service = "worker"
on_change = { exec = ["true"] }
[telemetry]
listen = "127.0.0.1:$((20000 + $1))"
[catalog]
backend = "local"
directory = "$work/catalog"
[control]
socket = "$work/$1.sock"
[log]
level = "warn"
TOML
}
work_config 0
launch "$pilotfish" -c "$work/0.toml"
one=$pid
sleep 5
read -r pss dirty threads < <(memory "$one")
row "pilotfish at work, one" "$pss" "$dirty" "$threads"
work_goal=$pss
pids=("$one")
for number in 1 2 3 4 5 6 7 8 9; do
    work_config "$number"
    launch "$pilotfish" -c "$work/$number.toml"
    pids+=("$pid")
done
sleep 5
for pid in "${pids[@]}"; do memory "$pid"; done >"$work/ten"
# shellcheck disable=SC2046
row "pilotfish at work, each of ten (mean)" $(awk '{ p += $1; d += $2; t += $3 } END { printf "%d %d %d", p / NR, d / NR, t / NR }' "$work/ten")
goal "PSS of the plain init, KiB" "$plain_goal" 2048
goal "PSS of one agent at work, KiB" "$work_goal" 3584

echo
echo "size, bytes"
printf '  %-12s %9d\n' tini "$(stat -L -c %s "$tini")" pilotfish "$(stat -c %s "$pilotfish")"
