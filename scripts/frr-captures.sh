#!/usr/bin/env bash
# frr-captures.sh PATH... - decodes recorded FRR sessions and compares every table with what the router itself showed.
# PATH is a folder with dump/, down/, up/ and expected.*/ (as in engine/tests/fixtures/frr), or such a folder as .tar.xz.
# Each expected.*/ has, for every router, rN.mpls_table.json (`show mpls table json`) and one or several rN.ip_route*.json
# (`show ip route json`, `show ip route vrf all json`): routes of VRFs are compared too, if these files have them.
# Prints one line per recording; exit 1 when any entry of any table differs.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
folders=""
for path in "$@"; do
  case $path in
    *.tar.xz)
      tar -C "$unpacked" -xf "$path"
      path=$unpacked/$(basename "$path" .tar.xz) ;;
  esac
  [ -d "$path/dump" ] || { echo "$path: expected a folder with dump/, down/, up/ and expected.*/" >&2; exit 3; }
  folders=$folders:$(realpath "$path")
done
STORMDRAIN_FRR_CAPTURES=$folders cargo test --quiet -p engine --test main -- --nocapture segment_routing
