#!/bin/bash
# What the failovers harness asks of PostgreSQL, from a container beside the servers named in SERVERS.
#
#   postgres.sh init             makes the table
#   postgres.sh write WRITER     inserts rows until it is killed; prints a line for each that was acknowledged
#   postgres.sh rows             the ids of all rows, from whichever server is the primary
#   postgres.sh primaries        the servers that take writes now
#   postgres.sh replicas         how many stream from the primary, and have all of it
#
# A line of `write`: milliseconds since 1970, the row's id, the server that took it, its timeline.
set -u
export PGUSER=postgres PGDATABASE=postgres PGPASSWORD=${PASSWORD:?} PGCONNECT_TIMEOUT=2
anywhere="host=$SERVERS target_session_attrs=read-write tcp_user_timeout=2000 keepalives_idle=1 keepalives_interval=1 keepalives_count=2"
sql() { timeout 20 psql -XAtq -v ON_ERROR_STOP=1 -d "${2:-$anywhere}" -c "$1"; }

case $1 in
init) sql "CREATE TABLE IF NOT EXISTS journal (id text PRIMARY KEY, server text NOT NULL)" ;;
write)
    row=0
    trap '' PIPE # what it writes to may have ended
    exec {never}<> <(:) # nothing comes: to wait by, without a process
    while :; do
        coproc PSQL { exec psql -XAtq -F ' ' -v ON_ERROR_STOP=1 -d "$anywhere" 2>/dev/null; }
        # What has ended by now has no descriptors, and no number.
        to=${PSQL[1]-} from=${PSQL[0]-} pid=${PSQL_PID-}
        [ -n "$to" ] && [ -n "$from" ] && [ -n "$pid" ] || { sleep 0.1; continue; }
        while row=$((row + 1)) && echo "INSERT INTO journal VALUES ('$2-$row', :'HOST') RETURNING id, server, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);" >&"$to" \
            && read -r -t 4 line <&"$from"; do
            echo "$((${EPOCHREALTIME/./} / 1000)) $line"
            read -r -t 0.05 -u "$never" # some twenty rows a second
        done 2>/dev/null
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        sleep 0.1
    done
    ;;
rows) sql "SELECT id FROM journal" ;;
primaries)
    for server in ${SERVERS//,/ }; do
        [ "$(sql "SELECT pg_is_in_recovery()" "host=$server" 2>/dev/null)" != f ] || echo "$server"
    done
    ;;
replicas) sql "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name <> 'pg_basebackup' AND replay_lsn >= pg_current_wal_lsn() - 1000000" ;;
esac
