#!/usr/bin/env bash
# How many agents this machine holds, each with a main, an HTTP check each second and a registration, on one Consul server
# and on `local`: so many as long as no check is late by more than a second, as the server sees that is checked. Prints
# figures, and whether the goal was met; BLESS=1 writes them into tests/bench/growth.csv as growth.sh does.
#
#   PILOTFISH=... [N="100 1000"] [STORE=consul|local] [BLESS=1] tests/bench/density.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
figures=tests/bench/growth.csv
# shellcheck source=tests/bench/programs.sh
source tests/bench/programs.sh
program density
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-density.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
trap 'exit 130' INT TERM

read -ra counts <<<"${N:-100 250 500 1000 2000 4000}"
read -ra stores <<<"${STORE:-consul local}"
tests/get-servers.sh .servers
machine
echo "each of N agents, at rest, in a second; late: of all checks, beyond their interval"
printf '%-8s %6s %9s | %8s %8s %8s | %7s %8s %8s | %9s %7s %7s | %9s %9s\n' "" N healthy "late 50 %" "99 %" "most, ms" \
    "cpu, ms" "PSS, KiB" private requests "B out" "B in" "store, ms" "else, ms"
for store in "${stores[@]}"; do
    most=0
    for count in "${counts[@]}"; do
        "$programs/density" "$pilotfish" .servers "$store" "$count" >"$work/line" || break
        tr ' ' '\n' <"$work/line" | awk -F= -v store="$store" -v figures="$work/figures" '
            { value[$1] = $2 }
            END {
                printf "%-8s %6d %9d | %9.1f %8.1f %8.1f | %7.3f %8d %8d | %9s %7s %7s | %9.1f %9.1f\n", store, value["agents"],
                    value["registered"], value["late50"], value["late99"], value["latest"], value["cpu"], value["pss"],
                    value["private"], value["requests"], value["sent"], value["received"], value["server"], value["others"]
                printf "agents,%s,%d,%d,%s,%s\n", store, value["agents"], value["pss"], value["cpu"], value["latest"] >>figures
                exit value["latest"] > 1000 || value["registered"] < value["agents"]
            }' || break
        most=$count
    done
    # Where fewer were asked for, nothing is known.
    [ "$most" = "$count" ] && [ "$count" -lt 1000 ] ||
        echo "  goal: $store: no check of $most agents late by a second, at least 1000: $([ "$most" -ge 1000 ] && echo met || echo MISSED)"
done
[ -z "${BLESS:-}" ] || bless "$work/figures" "$figures"
