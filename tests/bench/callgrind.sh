#!/usr/bin/env bash
# What scripts that count under callgrind have in common; sourced, with the repository as the working directory. Who
# sources it sets `name` before, and finds `work`, a folder that goes with the script, and `pids`, whose processes do.
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-${name:?}.XXXXXX")
declare -a pids=()
# shellcheck disable=SC2317 # called by the trap
end() {
    local pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}

trap end EXIT
trap 'exit 130' INT TERM

# under_callgrind NAME OUTPUT [OPTION...] -- COMMAND...: as PID 1, counted into $work/NAME.PID; `namespace` is what runs it.
under_callgrind() {
    local run=$1 output=$2
    shift 2
    local -a options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    unshare --pid --fork --kill-child --mount-proc \
        valgrind --quiet --tool=callgrind --callgrind-out-file="$work/$run.%p" "${options[@]}" "$@" >"$output" 2>&1 &
    namespace=$!
    pids+=("$namespace")
}

# awaited: the end of `namespace`, for a minute. A stop is bounded by the config, but under callgrind everything takes
# fifty times as long.
awaited() {
    for _ in $(seq 600); do
        kill -0 "$namespace" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$namespace" 2>/dev/null || true
    wait "$namespace" || true
}
