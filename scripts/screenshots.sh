#!/usr/bin/env bash
# screenshots.sh - makes the pictures that README.md shows, into docs/images.
#
#   scripts/screenshots.sh            with the debug build
#   scripts/screenshots.sh --release  with the release build: what an operator would see
#
# Starts a collector and a network whose links and routers fail for a minute and a half (STORM_S), and
# looks at the page with a headless Chromium. Needs what scripts/page-tests.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/page-tests.sh "$@" --pictures
for picture in docs/images/*.png; do
    bytes=$(stat -c %s "$picture")
    echo "$picture: $bytes bytes"
    [ "$bytes" -lt 150000 ] || { echo "screenshots.sh: $picture is larger than 150 kB" >&2; exit 1; }
done
