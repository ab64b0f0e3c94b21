#!/usr/bin/env bash
# Asks cargo-deny about advisories (those in tests/advisories, of the day they were taken), licences, duplicates and
# sources. cargo-deny takes its database from a git clone that it fetched itself; ours is made to look like one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where tests/setup.sh puts it.
PATH="${CARGO_TARGET_DIR:-target}/tools/bin:$PATH"
# cargo-deny's name for RustSec's database: that of its address, and a hash of it.
database=target/advisories/advisory-db-3157b0e258782691 # below deny.toml's db-path, wherever the build is

rm -rf "$database"
mkdir -p "$database/.git"
cp -r tests/advisories/crates "$database/"
touch "$database/.git/FETCH_HEAD"
echo "lint: advisories as of $(cat tests/advisories/date)"

# It looks at the crates of all platforms.
cargo fetch --locked --quiet
cargo deny --offline --locked check --hide-inclusion-graph
