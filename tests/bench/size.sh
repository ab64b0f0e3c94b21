#!/usr/bin/env bash
# Which crates the bytes of the binary are from, by its symbols. What a generic function of std was made for counts to the
# crate that it was made for, where its name says so; what symbols don't cover (constants without a name, tables to unwind
# by) stands by section.
#
#   BINARY=... tests/bench/size.sh
set -euo pipefail
binary=$(realpath "${BINARY:?a release binary with symbols}")
rows=${ROWS:-24}

echo "sections, kB"
size -A -d "$binary" | awk '$2 > 20000 && $1 ~ /^\./ && $1 !~ /symtab|strtab|debug/ { printf "  %-24s %8d\n", $1, $2 / 1000 }' | sort -k 2 -n -r
echo "crates, kB of code and of constants with a name"
nm --demangle --print-size "$binary" | awk -v rows="$rows" '
    function hex(text,    n, value) {
        value = 0
        for (n = 1; n <= length(text); n++) value = value * 16 + index("0123456789abcdef", substr(text, n, 1)) - 1
        return value
    }
    # The first crate of a name that is no part of std.
    function crate(name,    rest, found) {
        rest = name
        while (match(rest, /[A-Za-z_][A-Za-z0-9_]*(\[[0-9a-f]+\])?::/)) {
            found = substr(rest, RSTART, RLENGTH - 2)
            sub(/\[.*/, "", found)
            if (found !~ /^(core|alloc|std)$/) return found
            # The rest of this path is of std as well.
            rest = substr(rest, RSTART + RLENGTH)
            while (match(rest, /^[A-Za-z0-9_{}#]+(::)?/)) rest = substr(rest, RLENGTH + 1)
        }
        if (name ~ /::/) return "std"
        if (name ~ /^(ring_core|x25519|p256|p384|ecp_|bn_|gcm_|aes_|sha256_|sha512_|chacha20|vpaes|fiat|LIMB)/) return "ring"
        return "libc, compiler builtins"
    }
    NF >= 4 && tolower($3) ~ /[tdrbvw]/ {
        bytes = hex($2)
        # Two names of one place.
        if (($1, $2) in seen) next
        seen[$1, $2] = 1
        kind = tolower($3) ~ /[tvw]/ ? "code" : "data"
        name = $0
        sub(/^[0-9a-f]+ [0-9a-f]+ . /, "", name)
        of = crate(name)
        total[of] += bytes
        part[of, kind] += bytes
        all[kind] += bytes
    }
    END {
        printf "  %-24s %8s %8s %6s\n", "", "code", "data", "code %"
        for (of in total) printf "  %-24s %8.1f %8.1f %6.1f\n", of, part[of, "code"] / 1000, part[of, "data"] / 1000, 100 * part[of, "code"] / all["code"] | "sort -k 2 -n -r | head -n " rows
        close("sort -k 2 -n -r | head -n " rows)
        printf "  %-24s %8.1f %8.1f\n", "all", all["code"] / 1000, all["data"] / 1000
    }'
