#!/usr/bin/env bash
# Runs the tests of tests/docker on a real Docker engine: builds the images from docker/ (nothing is pulled: their
# base is made of this machine's busybox and nginx), runs the tests, which bring up the examples, removes what it made. Then
# it kills a primary of each example that keeps data (tests/faults/failovers); what the examples' images are made of stays
# (tests/images.sh). Where no engine answers it starts one of its own, with its data in a temporary directory, and ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to test}")
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-e2e.XXXXXX")
name=pilotfish-e2e-$$
engine=""

clean_up() {
    local left
    # Everything that a test started carries this label; the tests remove it themselves unless they are killed.
    left=$(docker ps --all --quiet --filter "label=pilotfish-e2e=$name" 2>/dev/null || true)
    # shellcheck disable=SC2086 # a list of ids
    [ -z "$left" ] || docker rm --force --volumes $left >/dev/null || true
    # By name and children first: an id that others are built upon can't be removed.
    for left in init tini web nginx pilotfish base; do
        docker image rm --force "$name-$left" >/dev/null 2>&1 || true
    done
    if [ -n "$engine" ]; then
        kill -TERM "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

answers() { docker version >/dev/null 2>&1; }

if ! answers; then
    if [ "$(id -u)" != 0 ]; then
        echo "e2e: no Docker engine answers, and starting one needs root" >&2
        exit 1
    fi
    echo "e2e: no Docker engine answers: starting one for these tests"
    export DOCKER_HOST=unix://$work/docker.sock
    echo '{}' >"$work/daemon.json" # not this machine's own: its paths would be shared
    dockerd --config-file "$work/daemon.json" --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        >"$work/log" 2>&1 </dev/null &
    engine=$!
    for _ in $(seq 300); do
        answers && break
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.1
    done
    if ! answers; then
        tail -n 20 "$work/log" >&2
        echo "e2e: the engine doesn't start" >&2
        exit 1
    fi
fi

# --- the base: this machine's busybox, and nginx with the libraries it needs -----------------------------------------
root=$work/root
mkdir -p "$root"/{bin,etc/nginx,tmp,run,proc,sys,dev,var/log/nginx,var/lib/nginx,usr/sbin,usr/share/nginx}
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$(command -v nginx)" "$root/usr/sbin/nginx"
ldd "$(command -v nginx)" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$(realpath "$library")" "$root$library"
done
printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
tar -C "$root" -c . | docker import - "$name-base" >/dev/null

# --- the images of docker/ -------------------------------------------------------------------------------------------
cp -r docker "$work/context"
cp "$pilotfish" "$work/context/pilotfish"
rustc --edition 2024 -O -C target-feature=+crt-static -o "$work/context/backend" docker/demo/backend.rs
# The classic builder is in the engine itself; the other one is a plugin that may not be there.
build() {
    DOCKER_BUILDKIT=0 docker build --quiet --tag "$name-$1" --build-arg "PILOTFISH=$name-pilotfish" \
        --build-arg "BASE=$name-base" --file "$2" "$work/context" >/dev/null 2>"$work/build" || {
        cat "$work/build" >&2
        exit 1
    }
}
build pilotfish docker/Dockerfile
build web docker/web/Dockerfile
build nginx docker/nginx/Dockerfile
# The shape of a plain init: the base with the binary before its commands.
printf 'ARG BASE\nARG PILOTFISH\nFROM ${PILOTFISH} AS pilotfish\nFROM ${BASE}\nCOPY --from=pilotfish /pilotfish /pilotfish\nENTRYPOINT ["/pilotfish", "--"]\n' \
    >"$work/init.Dockerfile"
build init "$work/init.Dockerfile"
# The same where tini was.
printf 'ARG BASE\nARG PILOTFISH\nFROM ${PILOTFISH} AS pilotfish\nFROM ${BASE}\nCOPY --from=pilotfish /pilotfish /sbin/tini\nENTRYPOINT ["/sbin/tini", "-g", "-e", "3", "--"]\n' \
    >"$work/tini.Dockerfile"
build tini "$work/tini.Dockerfile"

export PILOTFISH_E2E=$name
cargo --locked test --test pilotfish -- --ignored --show-output --test-threads 4 docker::
# One after the other: three databases each, and what is measured is how long nobody writes.
cargo --locked test --test pilotfish -- --ignored --nocapture --test-threads 1 failovers::smoke::
