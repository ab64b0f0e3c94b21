# shellcheck shell=bash disable=SC2154 # what it refers to is run.sh's
# Sourced by run.sh: the server of BACKEND=consul or etcd, a real one from Debian's packages (tests/get-servers.sh), on
# loopback and free ports, below $DEMO. The `local` catalog has none.

engine=""

# start_engine BACKEND PORT...: sets engine (its pid) and DEMO_ENGINE (where it listens).
start_engine() {
    local kind=$1 servers=$sources/../../.servers
    shift
    [ "$kind" != local ] || return 0
    "$sources/../../tests/get-servers.sh" "$servers"
    mkdir -p "$DEMO/engine"
    DEMO_ENGINE=127.0.0.1:$1
    # A clock sees a dead container here, not the kernel: three heartbeats of a second.
    DEMO_TTL=3s
    export DEMO_ENGINE DEMO_TTL
    case $kind in
    consul)
        setsid "$servers/consul" agent -dev -bind 127.0.0.1 -node demo -http-port "$1" -server-port "$2" \
            -serf-lan-port "$3" -serf-wan-port "$4" -grpc-port -1 -dns-port -1 >"$DEMO/logs/engine" 2>&1 </dev/null &
        ;;
    etcd)
        setsid "$servers/etcd35" --data-dir "$DEMO/engine" --listen-client-urls "http://$DEMO_ENGINE" \
            --advertise-client-urls "http://$DEMO_ENGINE" --listen-peer-urls "http://127.0.0.1:$2" \
            --log-level warn >"$DEMO/logs/engine" 2>&1 </dev/null &
        ;;
    esac
    engine=$!
    until_so 20 engine_answers || fail "the $kind server doesn't answer"
}

# It has a leader, and so takes writes.
engine_answers() {
    local answer path=/health wanted=true
    [ "$backend" = etcd ] || { path=/v1/status/leader wanted=127; }
    exec 8<>"/dev/tcp/${DEMO_ENGINE%:*}/${DEMO_ENGINE#*:}" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: demo\r\n\r\n' "$path" >&8
    answer=$(tail -n 1 <&8)
    exec 8>&-
    [[ $answer = *$wanted* ]]
} 2>/dev/null

stop_engine() {
    [ -n "$engine" ] || return 0
    kill -TERM "$engine" 2>/dev/null || true
    until_so 5 no_longer "$engine" || kill -KILL "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    engine=""
}
