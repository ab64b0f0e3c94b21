#!/usr/bin/env bash
# tests/advisories/take.sh CHECKOUT: takes the advisories of the crates in Cargo.lock from a checkout (or bare clone) of
# RustSec's advisory-db, and notes of what day they are.
set -euo pipefail
from=${1:?a checkout of advisory-db}
cd "$(dirname "${BASH_SOURCE[0]}")"

rm -rf crates
sed -n 's/^name = "\(.*\)"$/\1/p' ../../Cargo.lock | sort -u | while read -r crate; do
    git -C "$from" ls-tree -r --name-only HEAD -- "crates/$crate/"
done | while read -r file; do
    mkdir -p "$(dirname "$file")"
    git -C "$from" show "HEAD:$file" >"$file"
done
git -C "$from" log -1 --format=%cs >./date
echo "$(find crates -name '*.md' | wc -l) advisories as of $(cat ./date)"
