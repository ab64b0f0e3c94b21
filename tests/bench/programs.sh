#!/usr/bin/env bash
# What scripts have in common that measure with a program of their own; sourced, with the repository as the working
# directory. Who sources it finds `programs`, where these are.
programs=$PWD/target/bench

# program NAME: compiled from tests/bench/NAME.rs and what that shares, unless it is current.
program() {
    mkdir -p "$programs"
    if [ ! -x "$programs/$1" ] || [ -n "$(find tests/bench -name '*.rs' -newer "$programs/$1")" ]; then
        rustc --edition 2024 -O -C target-feature=+crt-static -o "$programs/$1" "tests/bench/$1.rs"
    fi
}

# machine: what figures depend on.
machine() {
    echo "$(uname -sr), $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d ' ' -f 1 /proc/loadavg)"
}

# bless NEW FIGURES: those of the axes that were measured are replaced, the others stay.
bless() {
    local head='axis,series,n,memory_kib,cpu_ms,latency_ms'
    {
        echo "$head"
        awk -F, 'NR == FNR { measured[$1] = 1; next } FNR > 1 && !($1 in measured)' "$1" "$2"
        cat "$1"
    } >"$1.all"
    mv "$1.all" "$2"
    echo "$2: $(wc -l <"$1") lines are new"
}
