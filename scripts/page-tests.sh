#!/usr/bin/env bash
# page-tests.sh - the page in a real browser: what it shows, how it is used, whether everybody can.
#
#   scripts/page-tests.sh             every test of engine/tests/page
#   scripts/page-tests.sh now         those whose file name contains `now`
#   scripts/page-tests.sh --pictures  no tests: what scripts/screenshots.sh asks for
#
# Before any of these, --release takes the release build and brings it up to date.
# STORMDRAIN and STORMGEN name the programs (default: those of target/debug, built when they are
# missing). Pictures of every part are left in target/page-tests/pictures for people to look at.
# CHROMIUM names the browser.
#
# Needs node 20 or later, npm and chromium. The driver of the browser and the judge of accessibility
# come from npm at the versions and checksums of package-lock.json. Exit code 3: something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
place=$(mkdir -p "$target/page-tests" && realpath "$target/page-tests")

profile=debug
if [ "${1:-}" = --release ]; then
    profile=release
    shift
fi

missing() { echo "page-tests.sh: $*" >&2; exit 3; }

command -v node >/dev/null || missing "node is missing: apt-get install nodejs"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || missing "node 20 or later is needed"
command -v npm >/dev/null || missing "npm is missing: apt-get install npm"
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$CHROMIUM" ] || missing "chromium is missing: apt-get install chromium"

for program in stormdrain:engine stormgen:loadgen; do
    name=${program%:*}
    variable=${name^^}
    if [ -z "${!variable:-}" ]; then
        if [ "$profile" = release ]; then
            cargo build --release -p "${program#*:}"
        elif [ ! -x "$target/debug/$name" ]; then
            cargo build -p "${program#*:}"
        fi
        export "$variable=$(realpath "$target/$profile/$name")"
    fi
done

# Packages lie beside a copy of the tests, not in the tree: node looks for them upwards of a file.
cp engine/tests/page/package.json engine/tests/page/package-lock.json "$place/"
rm -f "$place"/*.mjs
cp engine/tests/page/*.mjs "$place/"
if ! cmp -s "$place/package-lock.json" "$place/node_modules/.from-lock.json"; then
    (cd "$place" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
        || missing "npm cannot fetch what engine/tests/page/package-lock.json names"
    cp "$place/package-lock.json" "$place/node_modules/.from-lock.json"
fi

export CHROMIUM
mkdir -p "$place/pictures"
export PICTURES=$place/pictures
if [ "${1:-}" = --pictures ]; then
    mkdir -p docs/images
    PICTURES=$(realpath docs/images) exec node "$place/pictures.mjs"
fi
shopt -s nullglob
tests=("$place"/*"${1:-}"*.test.mjs)
[ "${#tests[@]}" -gt 0 ] || { echo "page-tests.sh: no test is named like \`${1:-}\`" >&2; exit 2; }
# One file after the other: each has a collector and a browser of its own, and the processors to itself.
exec node --test --test-concurrency=1 --test-reporter=spec "${tests[@]}"
