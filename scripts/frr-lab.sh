#!/usr/bin/env bash
# frr-lab.sh - six real FRR routers, one collector, one link that fails: the tables and the LSPs before, meanwhile, after.
#
# Builds the lab of scripts/frr-lab/lab.sh (its environment variables apply) and runs the collector in the lab's management
# namespace. Fails the link between r2 and r5, mends it, kills the collector, starts it again. After each step it compares
# the collector's table of every router with `show mpls table` and `show ip route` of that router, branch by branch; at the
# end it asks about each of the instants.
# STORMDRAIN names the binary (default: target/debug/stormdrain, built when it is missing). KEEP=1 leaves lab and data.
#
# Needs root, FRR, iproute2, gcc and jq. Exit 1 when any table differs.
set -euo pipefail
cd "$(dirname "$0")/.."
STORMDRAIN=${STORMDRAIN:-${CARGO_TARGET_DIR:-target}/debug/stormdrain}
export BASE=${BASE:-$(mktemp -d)}
export PORT=${PORT:-30310}
LAB=scripts/frr-lab/lab.sh
DATA=$BASE/data
NODES="1 2 3 4 5 6"
collector=""

for tool in /usr/lib/frr/zebra ip vtysh jq; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install frr iproute2 jq" >&2; exit 3; }
done
[ "$(id -u)" = 0 ] || { echo "network namespaces need root" >&2; exit 3; }
[ -x "$STORMDRAIN" ] || cargo build -p engine

clean_up() {
  [ -z "$collector" ] || { kill "$collector" 2> /dev/null && wait "$collector" || true; }
  [ "${KEEP:-0}" = 1 ] && { echo "kept: $BASE"; return; }
  $LAB down
  rm -rf "$BASE"
}
trap clean_up EXIT

settings() { # the six routers, by the addresses that the lab gives them
  local node
  for node in $NODES; do
    printf '[[router]]\nid = "10.255.0.%s"\nname = "r%s"\nsources = ["10.254.0.%s/32"]\naddresses = [' "$node" "$node" "$node"
    ip -n "frrlab-r$node" -j -4 addr show \
      | jq -j '[.[] | select(.ifname | startswith("to-")) | .addr_info[].local | @json] | join(", ")'
    printf ']\n\n'
  done
}

# One line per entry and branch, whoever is asked: `ilm LABEL STACK@NEXTHOP%INTERFACE` or `ftn PREFIX STACK@NEXTHOP%INTERFACE`.
# `show mpls table` says no index of an interface; `show ip route` has those of neighbours and of names.
shown_by_router() { # NODE
  local routes=$BASE/routes.$1
  $LAB vty "$1" 'show ip route json' > "$routes"
  $LAB vty "$1" 'show mpls table json' | jq -r --slurpfile routes "$routes" '
    ([$routes[][][].nexthops[] | {(.ip // "", .interfaceName // ""): .interfaceIndex}] | add) as $indexes
    | .[] | .inLabel as $in | .nexthops[] | select(.installed)
    | ($indexes[.nexthop // .interface] // 1) as $index
    | (if .nexthop == null and .outLabelStack == [3] then "-" else (.outLabelStack | join("/")) end) as $stack
    | "ilm \($in) \($stack)@\(.nexthop // "fec")\(if $index == 1 then "" else "%ifindex:\($index)" end)"'
  jq -r '
    to_entries[] | .key as $prefix | .value[] | select(.selected and .installed)
    | (.protocol == "connected" or .protocol == "kernel") as $connected | .nexthops[] | select(.fib)
    | ([.labels[]? | select(. != 3)] | if length == 0 then "-" else join("/") end) as $stack
    | (if .ip then .ip elif $connected and $stack == "-" then "fec" else "" end) as $hop
    | (if .interfaceIndex == 1 then "" else "%ifindex:\(.interfaceIndex)" end) as $interface
    | if .unreachable then "ftn \($prefix) discard" else "ftn \($prefix) \($stack)@\($hop)\($interface)" end' "$routes"
}

shown_by_collector() { # NODE
  "$STORMDRAIN" table --data "$DATA" --router "r$1" --format json | jq -r '
    .[] | select(.answer == "known")
    | (if .in_label == -1 then "ftn \(.fec | ltrimstr("ip:"))" else "ilm \(.in_label)" end) as $key
    | if .operation == "discard" then "\($key) discard" else .branches[] | "\($key) \(.)" end'
}

# zebra 8.4 can forget to send the withdrawal of a label (FRRouting/frr#23208); only its next dump shows it. True when
# that is all that differs: labels that the collector has and the router has not. Said aloud, and not let pass after a dump.
only_kept_to_itself() { # NODE
  local gone
  [ -z "$(comm -23 "$BASE/router.$1" "$BASE/collector.$1")" ] || return 1
  gone=$(comm -13 "$BASE/router.$1" "$BASE/collector.$1" | cut -d' ' -f1,2 | sort -u)
  ! grep -qv '^ilm ' <<< "$gone" || return 1
  ! cut -d' ' -f1,2 "$BASE/router.$1" | grep -qxF "$gone" || return 1
  echo "r$1 kept a withdrawal to itself: $(tr '\n' ' ' <<< "$gone")" >&2
}

compare() { # STEP [dumped]: waits until both say the same, at most 15 s
  local node deadline=$((SECONDS + 15)) wrong lines
  while :; do
    wrong="" lines=0
    for node in $NODES; do
      shown_by_router "$node" | sort > "$BASE/router.$node"
      # Right after the start the collector knows no such router yet.
      shown_by_collector "$node" 2> "$BASE/collector.error" | sort > "$BASE/collector.$node" || true
      cmp -s "$BASE/router.$node" "$BASE/collector.$node" || wrong="$wrong r$node"
      lines=$((lines + $(wc -l < "$BASE/router.$node")))
    done
    [ -n "$wrong" ] && [ $SECONDS -lt $deadline ] || break
  done
  for node in $wrong; do
    if [ "${2:-}" != dumped ] && only_kept_to_itself "${node#r}"; then continue; fi
    echo "$1: the table of $node differs:" >&2
    diff "$BASE/router.${node#r}" "$BASE/collector.${node#r}" >&2 || true
    exit 1
  done
  [ -z "$wrong" ] || { echo "$1: $lines branches in six tables, equal but for that"; return; }
  echo "$1: $lines branches in six tables, all equal"
}

start_collector() {
  ip netns exec frrlab-mgmt "$STORMDRAIN" run --config "$BASE/stormdrain.toml" --data "$DATA" \
    --listen "10.254.0.254:$PORT" --http off >> "$BASE/stormdrain.log" 2>&1 &
  collector=$!
}

instant() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }

$LAB up
$LAB wait
settings > "$BASE/stormdrain.toml"
start_collector
compare before dumped
before=$(instant)
$LAB linkdown 2 5
sleep 0.2
$LAB wait
compare "link 2-5 down"
after=$(instant)
$LAB linkup 2 5
sleep 0.2
$LAB wait
compare "link 2-5 up"
mended=$(instant)
kill -KILL "$collector"
wait "$collector" 2> /dev/null || true
start_collector
compare "collector killed and started again" dumped

trace() { # WHAT FAR INSTANT; exit code 1 says that the LSP is broken, which is the point here
  printf '\n== %s\n' "$1"
  "$STORMDRAIN" trace --data "$DATA" --router r2 --fec "ip:10.255.0.$2/32" --at "$3" || [ $? = 1 ]
}
trace before 5 "$before"
trace before 6 "$before"
for moment in $("$STORMDRAIN" history --data "$DATA" --router r2 --fec ip:10.255.0.5/32 \
  --since "$before" --until "$after" --format json | jq -r '.[] | select(.operation != null) | .time'); do
  trace meanwhile 5 "$moment"
done
trace after 5 "$after"
trace after 6 "$after"
trace "mended, just before the kill" 5 "$mended"
trace "known again" 5 "$(instant)"
echo
"$STORMDRAIN" routers --data "$DATA"
"$STORMDRAIN" ledger --data "$DATA"
kill "$collector"
wait "$collector"
collector=""
"$STORMDRAIN" verify --data "$DATA"
