#!/bin/bash
# What the failovers harness asks of MariaDB, from a container beside the servers named in SERVERS: see postgres.sh.
set -u
export MYSQL_PWD=${PASSWORD:?}
on() { timeout "${3:-10}" mariadb --no-defaults -h "$1" -u admin --connect-timeout=2 -BN -e "$2" 2>/dev/null; }
is_primary() { [ "$(on "$1" 'SELECT @@read_only')" = 0 ]; }
primary() {
    local server
    for server in ${SERVERS//,/ }; do
        ! is_primary "$server" || { echo "$server" && return; }
    done
    return 1
}

case $1 in
init) on "$(primary)" "CREATE DATABASE IF NOT EXISTS app; CREATE TABLE IF NOT EXISTS app.journal (id varchar(64) PRIMARY KEY)" 60 ;;
write)
    row=0
    trap '' PIPE # what it writes to may have ended
    exec {never}<> <(:) # nothing comes: to wait by, without a process
    while :; do
        server=$(primary) || { sleep 0.2; continue; }
        coproc SQL { exec mariadb --no-defaults --unbuffered -h "$server" -u admin -BN 2>/dev/null; }
        # What has ended by now has no descriptors, and no number.
        to=${SQL[1]-} from=${SQL[0]-} pid=${SQL_PID-}
        [ -n "$to" ] && [ -n "$from" ] && [ -n "$pid" ] || { sleep 0.1; continue; }
        while row=$((row + 1)) && echo "INSERT INTO app.journal VALUES ('$2-$row'); SELECT HEX(SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1) >> 32);" >&"$to" \
            && read -r -t 4 term <&"$from"; do
            echo "$((${EPOCHREALTIME/./} / 1000)) $2-$row $server $term"
            read -r -t 0.05 -u "$never" # some twenty rows a second
        done 2>/dev/null
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        sleep 0.1
    done
    ;;
rows) on "$(primary)" "SELECT id FROM app.journal" 60 ;;
primaries)
    for server in ${SERVERS//,/ }; do
        ! is_primary "$server" || echo "$server"
    done
    ;;
replicas)
    first=$(primary) at=$(on "$first" "SELECT @@gtid_binlog_pos") count=0
    for server in ${SERVERS//,/ }; do
        [ "$server" = "$first" ] || [ "$(on "$server" "SELECT MASTER_GTID_WAIT('$at', 5)" 8)" != 0 ] || count=$((count + 1))
    done
    echo $count
    ;;
esac
