#!/usr/bin/env bash
# Builds the fuzz targets and lets them run, as many at a time as there are processors:
#   tests/fuzz/run.sh in-all|each DURATION [TARGET...]      (DURATION: 90s, 5m, 1h)
# Ends with a table, and with 1 when an input broke a promise, took too long, or too much memory. What is learned stays
# in target/fuzz, and the next run begins with it. `each` is the short form that every change has to pass: it begins with the
# corpus and a seed that stays, so that it judges the change and not its luck.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Of one input. A target has a tighter bound of its own on what it allocates (src/fuzzing.rs).
readonly MOST_SECONDS=10 MOST_MEGABYTES=1024 MOST_BYTES=8192

# What libFuzzer wants to know of every branch and comparison. rustc passes this on to LLVM, on its stable channel too;
# sanitizers would need a nightly, and find little in a program whose memory is the compiler's concern.
coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    --cfg fuzzing
)

in_seconds() {
    local number=${1%[smh]}
    [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: $1 isn't a duration: 90s, 5m, 1h" >&2; exit 64; }
    case $1 in
    *h) echo $((number * 3600)) ;;
    *m) echo $((number * 60)) ;;
    *) echo "$number" ;;
    esac
}

# fuzz TARGET SECONDS: its log, and its exit code beside it.
fuzz() {
    local target=$1 code=0 learned=$work/learned seed=0 # 0 is another one each time
    if [ "$mode" = each ]; then
        learned=$work/short seed=1
        rm -rf "${learned:?}/$target"
    fi
    mkdir -p "$learned/$target"
    FUZZ_TARGET=$target RUST_BACKTRACE=1 "$program" "$learned/$target" "tests/fuzz/corpus/$target" \
        -seed=$seed -dict=tests/fuzz/words.dict -artifact_prefix="$work/broken/$target-" -max_total_time="$2" \
        -timeout=$MOST_SECONDS -rss_limit_mb=$MOST_MEGABYTES -max_len=$MOST_BYTES -print_final_stats=1 \
        >"$work/logs/$target" 2>&1 </dev/null || code=$?
    echo "$code" >"$work/logs/$target.code"
}

# The last number behind a word of a log.
last() { grep -aoE "$1 *[0-9]+" "$2" | tail -n 1 | grep -oE '[0-9]+$' || echo "?"; }

mode=${1:?in-all or each}
seconds=$(in_seconds "${2:?a duration}")
shift 2
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/corpus)
for target in "${targets[@]}"; do
    [ -d "tests/fuzz/corpus/$target" ] || { echo "fuzz: no such target: $target (there are: $(ls -x -w 0 tests/fuzz/corpus))" >&2; exit 64; }
done

work=$(realpath -m "${CARGO_TARGET_DIR:-target}/fuzz")
mkdir -p "$work/logs" "$work/broken"
RUSTFLAGS="${coverage[*]}" cargo build --locked --quiet --manifest-path tests/fuzz/Cargo.toml --target-dir "$work"
program=$work/$(rustc -vV | sed -n 's/^host: //p')/debug/pilotfish-fuzz

jobs=$(nproc)
[ "$jobs" -le ${#targets[@]} ] || jobs=${#targets[@]}
[ "$mode" = each ] || seconds=$((seconds * jobs / ${#targets[@]}))
[ "$seconds" -gt 0 ] || seconds=1
echo "fuzz: ${#targets[@]} targets for ${seconds}s each, $jobs at a time"
rm -f "$work"/logs/*
running=()
trap '[ ${#running[@]} -eq 0 ] || kill "${running[@]}" 2>/dev/null' EXIT
for target in "${targets[@]}"; do
    if [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; then wait -n || true; fi
    fuzz "$target" "$seconds" &
    running+=($!)
done
wait
running=()

broken=0
printf '%-10s %12s %10s %8s %8s  %s\n' target executions per_s edges inputs outcome
for target in "${targets[@]}"; do
    log=$work/logs/$target outcome=held
    if [ "$(cat "$log.code")" != 0 ]; then
        broken=1
        outcome="broken by $(grep -aoE "$work/broken/[^ ]+" "$log" | tail -n 1 || echo "?")"
    fi
    printf '%-10s %12s %10s %8s %8s  %s\n' "$target" "$(last stat::number_of_executed_units: "$log")" \
        "$(last stat::average_exec_per_sec: "$log")" "$(last 'cov:' "$log")" "$(last 'corp:' "$log")" "$outcome"
done
for target in "${targets[@]}"; do
    if [ "$(cat "$work/logs/$target.code")" != 0 ]; then
        printf '\n%s:\n' "$target"
        grep -aE -m 8 -A 3 'panicked at|ERROR: libFuzzer|SUMMARY' "$work/logs/$target" || tail -n 20 "$work/logs/$target"
    fi
done
exit $broken
