#!/bin/bash
# What the failovers harness asks of Redis, from a container beside the servers named in SERVERS: see postgres.sh.
#
# A row counts as acknowledged once a replica has it, too: WAIT.
set -u
export REDISCLI_AUTH=${PASSWORD:?}
on() { timeout 5 redis-cli -e -h "$1" "${@:2}" 2>/dev/null; }
is_primary() { on "$1" role | head -n 1 | grep -q master; }
primary() {
    local server
    for server in ${SERVERS//,/ }; do
        ! is_primary "$server" || { echo "$server" && return; }
    done
    return 1
}

case $1 in
init) primary >/dev/null ;;
write)
    row=0
    trap '' PIPE # what it writes to may have ended
    exec {never}<> <(:) # nothing comes: to wait by, without a process
    while :; do
        server=$(primary) || { sleep 0.2; continue; }
        coproc REDIS { exec redis-cli -h "$server" 2>/dev/null; }
        # What has ended by now has no descriptors, and no number.
        to=${REDIS[1]-} from=${REDIS[0]-} pid=${REDIS_PID-}
        [ -n "$to" ] && [ -n "$from" ] && [ -n "$pid" ] || { sleep 0.1; continue; }
        while row=$((row + 1)) && printf 'set journal:%s %s\nwait 1 2000\nget pilotfish:term\n' "$2-$row" "$server" >&"$to" \
            && read -r -t 4 set <&"$from" && read -r -t 4 replicas <&"$from" && read -r -t 4 term <&"$from" \
            && [ "$set" = OK ] && [ "$replicas" -ge 1 ]; do
            printf '%d %s %s %x\n' "$((${EPOCHREALTIME/./} / 1000))" "$2-$row" "$server" "$term"
            read -r -t 0.05 -u "$never" # some twenty rows a second
        done 2>/dev/null
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        sleep 0.1
    done
    ;;
rows) on "$(primary)" --scan --pattern 'journal:*' | sed 's/^journal://' ;;
primaries)
    for server in ${SERVERS//,/ }; do
        ! is_primary "$server" || echo "$server"
    done
    ;;
replicas) on "$(primary)" info replication | grep -c '^slave[0-9]*:.*state=online' ;;
esac
