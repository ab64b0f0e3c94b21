#!/usr/bin/env bash
# Installs what a make target needs and this machine hasn't: tests/setup.sh build|lint|test|fuzz|demo|e2e|bench|instructions|order|failovers ...
# Asks first whether the thing is there, so that a machine that has it needs neither Debian nor root nor a network.
# Starts no service: a package's own service start is refused for as long as the installation runs.
set -euo pipefail

missing=()

# need PACKAGE CHECK...: PACKAGE is missing when the command CHECK fails.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }
has_sbin() { command -v "$1" || test -x "/usr/sbin/$1" || test -x "/sbin/$1"; }
# gcc answers with the bare name for a file it doesn't find.
has_libc_archive() { test -f "$(cc -print-file-name=libc.a)"; }
is_static() { has "$1" && file -L "$(command -v "$1")" | grep -q 'statically linked'; }

needs_build() {
    if ! has cargo >/dev/null; then
        echo "setup: cargo isn't there: install a Rust toolchain (1.88 or newer) first" >&2
        exit 1
    fi
    need gcc has cc
    need libc6-dev has_libc_archive
    # etcd's protocol is compiled from its .proto files, which import protobuf's own.
    need protobuf-compiler has protoc
    need libprotobuf-dev test -f /usr/include/google/protobuf/descriptor.proto
}

needs_namespaces() {
    need util-linux has unshare
    need util-linux has nsenter
}

# The tests' own network of hosts (tests/support/netlab.rs).
needs_network() {
    need iproute2 has_sbin ip
    need nftables has_sbin nft
}

needs_lint() {
    needs_build
    local tool
    for tool in fmt clippy; do
        if ! cargo "$tool" --version >/dev/null 2>&1; then
            echo "setup: cargo $tool isn't there: rustup component add rustfmt clippy" >&2
            exit 1
        fi
    done
    need shellcheck has shellcheck
    needs_cargo_deny
}

# Of one version: what it says of the same Cargo.lock changes with it. Some three minutes on two cores, once.
needs_cargo_deny() {
    local tools=${CARGO_TARGET_DIR:-target}/tools version=0.20.2
    if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $version" ]; then
        return
    fi
    echo "setup: building cargo-deny $version"
    # A tool of a few seconds: what is saved is the time to optimise it.
    if ! CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked --no-default-features --version "$version" --root "$tools" \
        --target-dir "$tools/build" cargo-deny; then
        echo "setup: cargo-deny $version can't be built" >&2
        exit 1
    fi
    rm -rf "$tools/build"
}

needs_test() {
    needs_lint
    needs_namespaces
    needs_network
    need file has file
    # The configs made for them are judged by themselves (tests/faults/balancers.rs).
    need nginx has_sbin nginx
    need haproxy has_sbin haproxy
    need binutils has strings
    need tini has tini
    need busybox-static is_static busybox
    # systemd-notify(1), and nothing else of it (tests/container/notified.rs).
    need systemd has systemd-notify
    # A gRPC server that isn't ours (tests/container/grpc.rs).
    need python3-grpcio /usr/bin/python3 -c "import grpc"
    # What reads the files that templates make.
    need nginx-light has_sbin nginx
    need haproxy has_sbin haproxy
}

needs_fuzz() {
    needs_build
    # libFuzzer is C++, compiled with its crate.
    need g++ has c++
}

needs_demo() {
    needs_build
    needs_namespaces
    need nginx-light has_sbin nginx
}

needs_e2e() {
    needs_test
    need nginx-light has_sbin nginx
    need docker.io has docker
    need docker.io has_sbin dockerd
    needs_examples
}

# The examples are brought up by their own compose files, in images made of Debian's packages.
has_compose() { docker compose version || command -v docker-compose; }

needs_examples() {
    need docker-compose has_compose
    need debootstrap has_sbin debootstrap
}

needs_failovers() {
    needs_build
    needs_network
    need docker.io has docker
    needs_examples
}

needs_bench() {
    needs_build
    needs_namespaces
    need tini has tini
    need tini has tini-static
    # Those it is measured beside.
    need dumb-init has dumb-init
    need catatonit has catatonit
    need s6 has s6-svscan
    need runit has runsvdir
    need supervisor has supervisord
}

needs_instructions() {
    needs_build
    needs_namespaces
    need valgrind has valgrind
    need curl has curl
}

needs_order() {
    needs_instructions
}

install() {
    local as_root=() packages
    packages=$(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')
    if ! has apt-get >/dev/null; then
        echo "setup: please install: $packages(by their Debian names; there is no apt-get here to do it)" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! { has sudo >/dev/null && sudo -n true 2>/dev/null; }; then
            echo "setup: please run as root: apt-get install --no-install-recommends $packages" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi

    echo "setup: installing $packages"
    # invoke-rc.d asks this file whether it may start a service: 101 is "no". A machine's own policy stays.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        # shellcheck disable=SC2064 # these values, now
        trap "${as_root[*]} rm -f $policy" EXIT
    fi
    local log apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of names
    if ! { "${as_root[@]}" "${apt[@]}" update && "${as_root[@]}" "${apt[@]}" install -y --no-install-recommends $packages; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        echo "setup: apt-get could not install $packages" >&2
        exit 1
    fi
    rm -f "$log"
}

for target in "$@"; do
    case $target in
    build | lint | test | fuzz | demo | e2e | bench | instructions | order | failovers) "needs_$target" ;;
    *)
        echo "setup: no such target: $target" >&2
        exit 64
        ;;
    esac
done
if [ ${#missing[@]} -gt 0 ]; then
    install
fi
