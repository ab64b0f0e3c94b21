#!/usr/bin/env bash
# How memory, processor and latency of one agent grow with what it has to do: instances of a watched service, checks,
# watches, orphans, members of its election. Prints figures; BLESS=1 writes them into tests/bench/growth.csv, which the
# plots of docs/performance.md are drawn from (make reference).
#
#   PILOTFISH=... [QUICK=1] [BLESS=1] [AXES="checks members"] tests/bench/growth.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
figures=tests/bench/growth.csv
# shellcheck source=tests/bench/programs.sh
source tests/bench/programs.sh
program growth
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-growth.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
trap 'exit 130' INT TERM

read -ra axes <<<"${AXES:-instances checks watches orphans members}"
steps=1,10,100,1000
[ -z "${QUICK:-}" ] || steps=1,10
tests/get-servers.sh .servers
machine
printf '%-10s %-10s %6s %12s %10s %12s\n' axis series n "PSS, KiB" "cpu, ms" "latency, ms"
"$programs/growth" "$pilotfish" .servers "$steps" "${axes[@]}" | tee "$work/figures" |
    awk -F, '{ printf "%-10s %-10s %6d %12s %10s %12s\n", $1, $2, $3, $4, $5, $6; fflush() }'
[ -z "${BLESS:-}" ] || bless "$work/figures" "$figures"
