#!/usr/bin/env bash
# Proves that a binary is static and alone: tests/static.sh BINARY. Starts it in an empty root, once.
set -euo pipefail
binary=$1

fail() {
    echo "static: $*" >&2
    exit 1
}

file -L "$binary"
file -L "$binary" | grep -Eq 'statically linked|static-pie linked' || fail "$binary is not static"
# It says so by its exit code, too, for a program at a fixed address.
libraries=$(ldd "$binary" 2>&1) || true
grep -Eq 'statically linked|not a dynamic executable' <<<"$libraries" || fail "$binary needs libraries: $libraries"

# glibc's name service switch loads the image's own modules into a static binary, and dies of it. Its code names this
# file; if the name isn't there, nothing in the binary can reach that code.
if strings -a "$binary" | grep -q 'nsswitch\.conf'; then
    fail "$binary contains glibc's name service switch: something calls getaddrinfo, getpwnam or getgrnam"
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp "$binary" "$root/pilotfish"
cp "$(command -v busybox)" "$root/busybox"
if [ "$(id -u)" = 0 ]; then
    code=0
    output=$(chroot "$root" /pilotfish -- /busybox sh -c 'echo "runs in a root of its own"; exit 7' </dev/null) || code=$?
    [ "$code" = 7 ] || fail "in an empty root it ended with $code, not with main's 7"
    [ "$output" = "runs in a root of its own" ] || fail "in an empty root main said: $output"
else
    echo "static: the run in an empty root needs root (chroot), so it was left out"
fi
echo "static: $binary is static, $(stat -c %s "$binary") bytes, and runs in a root with only itself and busybox"
