#!/usr/bin/env bash
# Prints what the tests say the program does: every test's name as a sentence, below the part it is about.
set -euo pipefail

echo
echo "behaviours:"
cargo --locked test --quiet -- --list --format terse 2>/dev/null |
    sed -n 's/: test$//p' |
    awk '
        {
            name = $0
            sub(/.*::/, "", name)
            part = substr($0, 1, length($0) - length(name) - 2)
            sub(/::tests$/, "", part)
            gsub(/::/, " / ", part)
            gsub(/_/, " ", name)
            if (part != last) { printf "  %s\n", part == "" ? "pilotfish" : part; last = part }
            printf "    %s\n", name
            count++
        }
        END { printf "%d behaviours\n", count }
    '
