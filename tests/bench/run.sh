#!/usr/bin/env bash
# The inits of containers beside each other, in one interleaved run: what each adds to a container's start and end, how
# late a signal comes, what an orphan costs, what it keeps in memory, how soon a crashed main is back. Prints figures,
# ratios and whether each goal was met; figures of a busy machine move, ratios hold better.
#
#   PILOTFISH=... [ROUNDS=300] [ORPHANS=10000] [QUICK=1] tests/bench/run.sh     BEFORE=... measures a second pilotfish beside it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
if [ -n "${QUICK:-}" ]; then
    rounds=${ROUNDS:-50} orphans=${ORPHANS:-2000}
else
    rounds=${ROUNDS:-300} orphans=${ORPHANS:-10000}
fi
# shellcheck source=tests/bench/programs.sh
source tests/bench/programs.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT

isolate=(unshare --pid --fork --mount-proc --kill-child)
if ! "${isolate[@]}" true 2>/dev/null; then
    echo "bench: PID namespaces aren't allowed here (run as root)" >&2
    exit 1
fi
program inits
main=("$programs/inits" main "$work/socket")

# What an image holds is a copy. The linker writes its file in small pieces, and the page cache keeps them as small
# pages: started from that file the init added 1.37 ms in place of the copy's 1.01. And the pages of a file not yet on
# disk count as dirty in whoever maps it.
copy() { # FILE NAME
    cp "$1" "$work/$2"
    sync "$work/$2"
}
copy "$pilotfish" pilotfish
pilotfish=$work/pilotfish

printf '[process]\nrestart = { policy = "always", backoff = "0s" }\n' >"$work/restart.toml"
printf 'exec = ["%s", "main", "%s"]\n' "${main[0]}" "${main[2]}" >>"$work/restart.toml"
printf '[process]\nstop_on = ["INT", "TERM"]\n' >"$work/config.toml"
inits=(none=)
declare -A sizes=([pilotfish]=$pilotfish)
peer() { # NAME BINARY ARGUMENT...: where it is installed
    local path
    path=$(command -v "$2" 2>/dev/null) || return 0
    sizes[${1%:}]=$path
    inits+=("$1=$path ${*:3}")
}
peer tini tini --
peer tini-static tini-static --
peer dumb-init dumb-init --
peer catatonit catatonit --
inits+=("pilotfish=$pilotfish --" "with-a-config=$pilotfish -c $work/config.toml --" "restarting:=$pilotfish -c $work/restart.toml")
if [ -n "${BEFORE:-}" ]; then
    copy "$(realpath "$BEFORE")" before
    sizes[before]=$work/before
    inits+=("before=$work/before --" "before-config=$work/before -c $work/config.toml --"
        "before-restarting:=$work/before -c $work/restart.toml")
fi
# Supervisors find main in files of their own.
for supervisor in s6 runit; do
    mkdir -p "$work/$supervisor/main"
    printf '#!/bin/sh\nexec %s\n' "${main[*]}" >"$work/$supervisor/main/run"
    chmod +x "$work/$supervisor/main/run"
done
peer s6-svscan: s6-svscan "$work/s6"
peer runsvdir: runsvdir -P "$work/runit"
cat >"$work/supervisord.conf" <<CONF
[supervisord]
nodaemon = true
user = root
logfile = /dev/null
logfile_maxbytes = 0
pidfile = $work/supervisord.pid
[program:main]
command = ${main[*]}
autorestart = true
startsecs = 0
stdout_logfile = NONE
stderr_logfile = NONE
CONF
peer supervisord: supervisord -c "$work/supervisord.conf"
machine
dpkg-query -W -f '${Package} ${Version}\n' tini dumb-init catatonit s6 runit supervisor 2>/dev/null | paste -sd, | sed 's/,/, /g'
echo "$rounds interleaved rounds, $orphans orphans, each init as PID 1 of its own namespace; medians"
"$programs/inits" "$work" "$rounds" "$orphans" "${inits[@]}" >"$work/inits" 2>"$work/log" || {
    tail "$work/log" >&2
    exit 1
}
for name in "${!sizes[@]}"; do
    # What is installed may be a script, or need libraries and an interpreter: its own file's size, then.
    echo "$name size=$(($(stat -L -c %s "${sizes[$name]}") / 1000))"
done >"$work/sizes"
awk '
    function cell(name, key) { return ((name, key) in value) ? value[name, key] : "" }
    function added(name, key) {
        return ((name, key) in value) ? value[name, key] - value["none", key] : ""
    }
    function whole(name) { return added(name, "start") + added(name, "end") }
    function goal(text, value, limit) {
        printf "  goal: %s: %.2f, at most %.2f: %s\n", text, value, limit, value <= limit ? "met" : "MISSED"
    }
    function ratio(key) { return value["pilotfish", key] / value["tini", key] }
    !($1 in seen) { seen[$1] = 1; order[++names] = $1 }
    { for (field = 2; field <= NF; field++) { split($field, pair, "="); value[$1, pair[1]] = pair[2] } }
    END {
        printf "  %-18s %8s %8s %8s %8s %8s %8s %9s %8s %8s %8s %8s\n", "", "start", "start", "end", "signal", "TERM",
            "restart", "orphan", "orphan", "PSS", "dirty", "file"
        printf "  %-18s %8s %8s %8s %8s %8s %8s %9s %8s %8s %8s %8s\n", "", "added us", "90 % us", "added us", "us", "us",
            "us", "stream us", "heap us", "KiB", "KiB", "kB"
        for (i = 1; i <= names; i++) {
            n = order[i]
            stream = cell(n, "stream"); backlog = cell(n, "backlog")
            printf "  %-18s %8s %8s %8s %8s %8s %8s %9s %8s %8s %8s %8s\n", n, added(n, "start"), cell(n, "start90"),
                added(n, "end"), cell(n, "signal"), cell(n, "term"), cell(n, "restart"),
                stream == "" ? "" : sprintf("%.1f", stream / 1000), backlog == "" ? "" : sprintf("%.1f", backlog / 1000),
                cell(n, "pss"), cell(n, "dirty"), cell(n, "size")
        }
        goal("start added, over tini", added("pilotfish", "start") / added("tini", "start"), 1)
        goal("start and end added, over tini", whole("pilotfish") / whole("tini"), 1)
        goal("signal to main, over tini", ratio("signal"), 1)
        goal("TERM to main, over tini", ratio("term"), 1)
        goal("main'"'"'s end to gone, over tini", value["pilotfish", "end"] / value["tini", "end"], 1.1)
        goal("processor per orphan in a stream, over tini", ratio("stream"), 1)
        goal("processor per orphan of a heap, over tini", ratio("backlog"), 1)
        goal("PSS of the plain init, MiB", value["pilotfish", "pss"] / 1024, 1)
        goal("crash to the new main, ms", value["restarting", "restart"] / 1000, 2)
        goal("size, MB", value["pilotfish", "size"] / 1000, 5.5)
    }' "$work/inits" "$work/sizes"
