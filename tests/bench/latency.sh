#!/usr/bin/env bash
# How long a change of a dependency takes to start the hook that waits for it, on each catalog, beside what
# ContainerPilot 2.7 and 3.8 took at their fastest poll (1 s). Prints figures, and whether each goal was met.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
pilotfish=$(realpath "${PILOTFISH:?the pilotfish binary to measure}")
changes=${CHANGES:-200}
# shellcheck source=tests/bench/programs.sh
source tests/bench/programs.sh
program latency
tests/get-servers.sh .servers

echo "from a change of a dependency to its hook's first instruction, $changes changes at rest, default settle, milliseconds"
"$programs/latency" "$pilotfish" .servers "$changes" | awk '
    BEGIN {
        printf "  %-18s %8s %8s %8s %26s\n", "", "median", "99 %", "most", "of it the write, median"
        printf "  %-18s %8d %8s %8d\n", "ContainerPilot", 470, "", 1000
    }
    {
        printf "  %-18s %8.1f %8.1f %8.1f %26.1f\n", $1, $3 / 1000, $4 / 1000, $5 / 1000, $6 / 1000
        goals = goals sprintf("  goal: %s: median %.1f ms, at most 10: %s; 99 %%: %.1f ms, at most 50: %s\n",
            $1, $3 / 1000, $3 <= 10000 ? "met" : "MISSED", $4 / 1000, $4 <= 50000 ? "met" : "MISSED")
    }
    END { printf "%s", goals }'
