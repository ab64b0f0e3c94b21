#!/usr/bin/env bash
# The demo: nginx in front of three web backends, each under its own pilotfish, and what happens when one joins, one
# dies and one leaves while requests come in. `make demo` runs it; KEEP=1 leaves everything running at the end.
#
# It ends with 0 only if every claim it prints held, and leaves no process, namespace or file behind.
set -euo pipefail

sources=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to show}")
backend=${BACKEND:-local}
rate=${RATE:-240}
keep=${KEEP:-}
programs=$sources/../../target/demo
PATH=$PATH:/usr/sbin:/sbin

if [ ! -f "$sources/catalog-$backend.toml" ]; then
    echo "demo: BACKEND=$backend isn't known; there are: $(cd "$sources" && echo catalog-*.toml | sed 's/catalog-//g; s/\.toml//g')" >&2
    exit 64
fi

DEMO=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-demo.XXXXXX")
# What the configs of this folder use; nginx's workers read below it.
DEMO_USER="$(id -un) $(id -gn)"
export DEMO DEMO_USER DEMO_PROGRAMS=$programs DEMO_SOURCES=$sources
chmod 755 "$DEMO"
mkdir -p "$DEMO/logs" "$DEMO/load"

declare -A holder=() agent=() port=() namespace=() held=()
claims=() broken=0 load="" cleaned=""

# --- small words ------------------------------------------------------------------------------------------------------

now() { echo "${EPOCHREALTIME/[.,]/}"; }
milliseconds() { awk -v us="$1" 'BEGIN { printf "%.1f ms", us / 1000 }'; }
headline() { printf '\n%s\n' "$*"; }
event() { printf '  %-62s %12s\n' "$1" "${2:-}"; }

claim() {
    local verdict=$1
    shift
    if [ "$verdict" = 0 ]; then
        claims+=("  held    $*")
    else
        claims+=("  BROKEN  $*")
        broken=1
    fi
}
# claim_that TEXT TEST...
claim_that() {
    local text=$1 verdict=0
    shift
    "$@" || verdict=1
    claim "$verdict" "$text"
}

fail() {
    echo "demo: $*" >&2
    local log
    for log in "$DEMO"/logs/*; do
        [ -s "$log" ] && { echo "--- the end of $(basename "$log"):"; tail -n 15 "$log"; } >&2
    done
    exit 1
}

child_of() {
    local status
    status=$(grep -lx "PPid:[[:space:]]*$1" /proc/[0-9]*/status 2>/dev/null | head -n 1) || true
    [ -n "$status" ] && basename "$(dirname "$status")"
}
lives() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# until_so SECONDS COMMAND...: polls it until it succeeds.
until_so() {
    local deadline=$(($(now) + $1 * 1000000))
    shift
    until "$@"; do
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 0.01
    done
}

# --- containers -------------------------------------------------------------------------------------------------------

# How an agent becomes PID 1 of a PID namespace of its own, if this machine lets it.
isolate=(unshare --pid --fork --mount-proc --kill-child)
if [ "${NAMESPACES:-yes}" = no ]; then
    isolate=()
elif ! "${isolate[@]}" true 2>/dev/null; then
    isolate=(unshare --user --map-root-user --pid --fork --mount-proc --kill-child)
    if ! "${isolate[@]}" true 2>/dev/null; then
        isolate=()
    fi
fi

# start NAME CONFIG: runs pilotfish with that config, in a namespace of its own.
start() {
    local name=$1 descriptor
    cat "$sources/$2.toml" "$sources/catalog-$backend.toml" >"$DEMO/$name.toml"
    # A session of its own: Ctrl-C is the demo's to handle, not everybody's at once.
    (
        for descriptor in "${held[@]}"; do exec {descriptor}<&-; done
        NAME=$name PORT=${port[$name]} exec setsid "${isolate[@]}" "$pilotfish" -c "$DEMO/$name.toml" \
            >"$DEMO/logs/$name" 2>&1 </dev/null
    ) &
    holder[$name]=$!
    if [ ${#isolate[@]} -gt 0 ]; then
        agent[$name]=""
        until_so 5 found_agent "$name" || fail "$name didn't start"
    else
        agent[$name]=${holder[$name]}
    fi
    # Held open to the end: the number of a namespace that is gone is soon another's, any container's of this machine.
    [ ${#isolate[@]} -eq 0 ] || exec {descriptor}<"/proc/${agent[$name]}/ns/pid" || fail "$name ended at once"
    [ ${#isolate[@]} -eq 0 ] || held[$name]=$descriptor
    [ ${#isolate[@]} -eq 0 ] || namespace[$name]=$(readlink "/proc/self/fd/$descriptor")
}
found_agent() { agent[$1]=$(child_of "${holder[$1]}"); }

# ended NAME: waits for it and gives its exit code.
ended() {
    local code=0
    wait "${holder[$1]}" 2>/dev/null || code=$?
    unset "holder[$1]"
    echo "$code" >"$DEMO/code"
}

# --- what nginx knows -------------------------------------------------------------------------------------------------

asks_pool() {
    local answer
    exec 8<>"/dev/tcp/127.0.0.1/${port[nginx]}" || return 1
    printf 'GET /pool HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n' >&8
    answer=$(tail -n 1 <&8)
    exec 8>&-
    [ "$answer" = "$1" ]
} 2>/dev/null

# pool_is EXPECTED: nginx has answered so, and only so, for the last 400 ms.
pool_is() {
    local at names
    read -r at names < <(tail -n 1 "$DEMO/load/pool")
    [ "$names" = "$1" ] && [ $(($(now) - at)) -gt 400000 ]
}

# pool_becomes EXPECTED SINCE: sets first (the first such answer) and only (from then on only such answers), in
# microseconds after SINCE.
pool_becomes() {
    until_so 15 pool_is "$1" || fail "nginx never got to know: $1 (last: $(tail -n 1 "$DEMO/load/pool"))"
    first=$(($(awk -v since="$2" -v want="$1" '$1 >= since { at = $1; sub(/^[^ ]+ /, ""); if ($0 == want) { print at; exit } }' "$DEMO/load/pool") - $2))
    only=$(($(tail -n 1 "$DEMO/load/pool" | cut -d' ' -f1) - $2))
}

# tell COMMAND...: to the load; what comes after it is counted so.
tell() {
    local answer
    echo "$*" >&"$to_load"
    read -r -t 5 answer <&"$from_load" && [ "$answer" = ok ] || fail "the load doesn't answer"
}

# counted PHASES BACKENDS COLUMN: a sum over the load's counts; both are patterns. 4 get_new .. 7 post_kept, 8 failed, 9 resent.
counted() {
    awk -v phases="^($1)$" -v backends="^($2)$" -v column="$3" \
        '$1 == "count" && $2 ~ phases && $3 ~ backends { sum += column == "served" ? $4 + $5 + $6 + $7 : $column }
         END { print sum + 0 }' "$DEMO/load/counts"
}

# --- the end ----------------------------------------------------------------------------------------------------------

clean_up() {
    [ -z "$cleaned" ] || return 0
    cleaned=1
    local name
    if [ -n "$load" ]; then
        exec {to_load}>&- || true
        until_so 8 no_longer "$load" || kill -KILL "$load" 2>/dev/null || true
    fi
    for name in "${!holder[@]}"; do
        lives "${agent[$name]}" && kill -TERM "${agent[$name]}" 2>/dev/null || true
    done
    for name in "${!holder[@]}"; do
        # What is in the namespace dies with its first process, and that one with the holder.
        until_so 10 no_longer "${holder[$name]}" ||
            kill -KILL "${agent[$name]}" "${holder[$name]}" 2>/dev/null || true
        wait "${holder[$name]}" 2>/dev/null || true
    done
    # Without a namespace nothing takes along what a killed subreaper leaves; a moment is for what is ending anyway.
    [ ${#isolate[@]} -gt 0 ] || until_so 1 nobody_of_ours || kill_ours
    stop_engine
    rm -rf "$DEMO"
    left_behind
}
no_longer() { ! lives "$1"; }
nobody_of_ours() { [ -z "$(ours)" ]; }
kill_ours() {
    local pid
    for pid in $(ours); do kill -KILL "$pid" 2>/dev/null || true; done
    until_so 2 nobody_of_ours || true
}

# ours: the pids of what the demo started, this script and its own children left out. Only what the demo started has
# this DEMO in its environment; a process that is gone meanwhile reads as empty.
ours() {
    local file pid parent
    for file in /proc/[0-9]*/environ; do
        pid=${file#/proc/}
        pid=${pid%/environ}
        { tr '\0' '\n' <"$file"; } 2>/dev/null | grep -qxF "DEMO=$DEMO" || continue
        parent=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
        [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || [ "${parent:-$$}" = $$ ] || [ "$parent" = "$BASHPID" ] || echo "$pid"
    done
}

# left_behind: says what is still there, and fails if anything is.
left_behind() {
    local name seen left=0 pid
    for name in "${!namespace[@]}"; do
        [ ${#isolate[@]} -gt 0 ] || continue
        seen=$(readlink /proc/[0-9]*/ns/pid 2>/dev/null | grep -cxF "${namespace[$name]}" || true)
        [ "$seen" = 0 ] || { echo "demo: $seen processes are left in the namespace of $name" >&2; left=1; }
    done
    for pid in $(ours); do
        echo "demo: left behind: $pid $({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null)" >&2
        left=1
    done
    [ ! -e "$DEMO" ] || { echo "demo: left behind: $DEMO" >&2; left=1; }
    return $left
}
trap 'clean_up || true' EXIT
trap 'echo; echo "demo: interrupted, cleaning up"; exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# shellcheck source=docker/demo/engine.sh
. "$sources/engine.sh"

# --- the play ---------------------------------------------------------------------------------------------------------

mkdir -p "$programs"
for program in backend load; do
    if [ ! -x "$programs/$program" ] || [ -n "$(find "$sources" -name '*.rs' -newer "$programs/$program")" ]; then
        rustc --edition 2024 -O -C target-feature=+crt-static -o "$programs/$program" "$sources/$program.rs"
    fi
done
sync "$pilotfish" 2>/dev/null || true # the pages of a file not yet on disk count as dirty in whoever maps it
mapfile -t ports < <("$programs/load" ports 9)
port=([web1]=${ports[0]} [web2]=${ports[1]} [web3]=${ports[2]} [web4]=${ports[3]} [nginx]=${ports[4]})
start_engine "$backend" "${ports[@]:5}"

if [ ${#isolate[@]} -gt 0 ]; then
    echo "Each pilotfish is PID 1 of a PID namespace of its own (${isolate[*]})."
else
    echo "There are no PID namespaces to be had (or NAMESPACES=no): each pilotfish is a subreaper, not PID 1."
fi
echo "The catalog is $backend; everything is below $DEMO while the demo runs."
echo "To look at it live:"
echo "  $pilotfish status --socket $DEMO/nginx.sock      (or web1.sock ...)"
echo "  curl http://127.0.0.1:${port[nginx]}/pool        whom nginx knows"
echo "  tail -f $DEMO/logs/*"

headline "three backends and one nginx start"
since=$(now)
for name in web1 web2 web3; do start "$name" backend; done
start nginx nginx
until_so 20 asks_pool "web1 web2 web3" || fail "nginx never got to know web1 web2 web3"
event "all four run, and nginx knows web1 web2 web3, after" "$(milliseconds $(($(now) - since)))"

coproc LOAD { exec "$programs/load" "${port[nginx]}" "$rate" "$DEMO/load" 2>"$DEMO/logs/load"; }
load=$LOAD_PID
exec {to_load}>&"${LOAD[1]}" {from_load}<&"${LOAD[0]}"
# The coprocess' own descriptors would keep the load's input open.
# shellcheck disable=SC2093,SC1083 # it closes a descriptor, and starts nothing
exec {LOAD[1]}>&-
for name in web1 web2 web3 web4; do tell backend "127.0.0.1:${port[$name]}" "$name"; done
tell phase steady
sleep 3

headline "web4 joins"
tell phase join
since=$(now)
start web4 backend
pool_becomes "web1 web2 web3 web4" "$since"
event "from its pilotfish's start to nginx's first answer with it" "$(milliseconds "$first")"
event "... to only such answers (nginx's old workers accept for 100 ms more)" "$(milliseconds "$only")"
sleep 2

headline "web2 is killed: kill -9 of its pilotfish, and its container with it"
tell phase kill
sleep 0.5 # what began before has ended: a request that the kill cuts off counts here
disown "${holder[web2]}" # or bash says "Killed" by itself
since=$(now)
kill -KILL "${agent[web2]}"
pool_becomes "web1 web3 web4" "$since"
tell phase after-kill
event "from the kill to nginx's first answer without it" "$(milliseconds "$first")"
event "... to only such answers" "$(milliseconds "$only")"
until_so 5 no_longer "${holder[web2]}" || fail "web2's namespace is still there"
unset "holder[web2]"
sleep 2

headline "web3 is stopped gracefully: SIGTERM to its pilotfish, under load"
tell phase stop
since=$(now)
kill -TERM "${agent[web3]}"
pool_becomes "web1 web4" "$since"
event "from SIGTERM to nginx's first answer without it" "$(milliseconds "$first")"
event "... to only such answers" "$(milliseconds "$only")"
until_so 10 no_longer "${agent[web3]}" || fail "web3 doesn't end"
event "... to the end of its container" "$(milliseconds $(($(now) - since)))"
ended web3
web3_code=$(cat "$DEMO/code")
tell phase after-stop
sleep 2

headline "the agents at work"
for name in web1 nginx; do
    [ -r "/proc/${agent[$name]}/smaps_rollup" ] || continue
    event "$name: PSS, private dirty, threads" "$(awk -v threads="$(find "/proc/${agent[$name]}/task" -mindepth 1 -maxdepth 1 | wc -l)" \
        '/^Pss:/ { pss = $2 } /^Private_Dirty:/ { dirty = $2 } END { printf "%d KiB, %d KiB, %d", pss, dirty, threads }' \
        "/proc/${agent[$name]}/smaps_rollup")"
done

exec {to_load}>&-
cat <&"$from_load" >"$DEMO/load/counts" || true
wait "$load" || fail "the load broke: $(cat "$DEMO/logs/load")"
load=""

# --- what came of it --------------------------------------------------------------------------------------------------

headline "requests, by what was going on and who answered"
printf '  %-11s %-6s %8s %8s %9s %9s %7s\n' phase from "GET new" "GET kept" "POST new" "POST kept" failed
awk '$1 == "count" { printf "  %-11s %-6s %8d %8d %9d %9d %7d\n", $2, $3, $4, $5, $6, $7, $8 }' "$DEMO/load/counts"
printf '\n  %-11s %10s %11s %11s %11s\n' phase "requests/s" "median ms" "99 % ms" "worst ms"
awk '$1 == "pace" { printf "  %-11s %10d %11.1f %11.1f %11.1f\n", $2, $3, $4 / 1000, $5 / 1000, $6 / 1000 }' "$DEMO/load/counts"
resent=$(counted '.*' '.*' 9)
echo
echo "  Requests resent because nginx had closed the kept connection between two of them, which HTTP allows: $resent."

sort "$DEMO/load/orders" >"$DEMO/load/confirmed"
cat "$DEMO"/*.ledger | sort >"$DEMO/load/carried-out"
twice=$(uniq -d "$DEMO/load/carried-out" | wc -l)
missing=$(comm -23 "$DEMO/load/confirmed" "$DEMO/load/carried-out" | wc -l)
slowest=$(awk '$1 == "pace" && $2 != "warm-up" { print $3 }' "$DEMO/load/counts" | sort -n | head -n 1)
lost=$(counted kill web2 8)
served=$(counted '.*' '.*' served)
# By the load's own plan each of the four kinds is a quarter; an eighth must have been served.
fewest=$(for column in 4 5 6 7; do counted '.*' '.*' "$column"; done | sort -n | head -n 1)

claim_that "web4 joined and served ($(counted 'join|after-.*|kill|stop' web4 served) requests), none failed meanwhile" \
    test "$(counted 'join|after-.*|kill|stop' web4 served)" -gt 0 -a "$(counted join '.*' 8)" = 0
claim_that "web2's death cost requests of web2 alone ($lost), and none after nginx's new configuration was live" \
    test "$(counted kill 'web[134]|nginx|unnamed' 8)" = 0 -a "$(counted after-kill '.*' 8)" = 0
claim_that "web2 served nothing after that" test "$(counted 'after-.*|stop' web2 served)" = 0
claim_that "web3's graceful stop cost no request" test "$(counted 'stop|after-stop' '.*' 8)" = 0
claim_that "web3 served on until it was out, and nothing after its end" \
    test "$(counted stop web3 served)" -gt 0 -a "$(counted after-stop web3 served)" = 0
claim_that "web3's container ended with its main process' code (143: SIGTERM; it was $web3_code)" test "$web3_code" = 143
claim_that "outside of web2's death nothing failed at all" test "$(counted '.*' '.*' 8)" = "$lost"
claim_that "$served requests were served, at least $slowest a second throughout (200 or more), each kind's share is right" \
    test "$slowest" -ge 200 -a "$fewest" -ge $((served / 8))
claim_that "every byte was right, no order was carried out twice ($twice), none confirmed and not carried out ($missing)" \
    test "$twice" = 0 -a "$missing" = 0 -a -s "$DEMO/load/confirmed"

if [ -n "$keep" ]; then
    headline "KEEP=1: web1, web4 and nginx stay up"
    echo "  curl http://127.0.0.1:${port[nginx]}/pool"
    echo "  $pilotfish status --socket $DEMO/nginx.sock"
    echo "  tail -f $DEMO/logs/nginx"
    [ ${#isolate[@]} -eq 0 ] || echo "  nsenter --pid --mount --target ${agent[web1]} ps ax    inside web1's container"
    echo "  kill -TERM ${agent[web4]}    stops web4;  kill -KILL ${agent[web1]}    kills web1"
    echo "To end it: Ctrl-C here, or kill $$"
    trap 'echo; kept=""' INT TERM HUP
    kept=1
    while [ -n "$kept" ]; do sleep 0.2; done
    trap '' INT TERM HUP
else
    trap '' INT TERM HUP
fi

if [ "$broken" != 0 ] && [ -s "$DEMO/load/failures" ]; then
    headline "the first and the last failures (microseconds since 1970, phase, backend, request, what)"
    { head -n 10; echo ...; tail -n 10; } <"$DEMO/load/failures" | sed 's/^/  /'
fi

headline "claims"
processes=${#holder[@]}
verdict=0
clean_up || verdict=1
claim "$verdict" "nothing is left: no process, namespace or file ($processes containers were still up)"
printf '%s\n' "${claims[@]}"
echo
if [ "$broken" = 0 ]; then
    echo "demo: every claim held"
else
    echo "demo: NOT every claim held" >&2
fi
exit "$broken"
