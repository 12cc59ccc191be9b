#!/usr/bin/env bash
# lab.sh - six FRR routers in network namespaces on one machine, each dialling one collector over FPM.
#
#   lab.sh up              build namespaces, links and settings; start zebra and the routing daemons
#   lab.sh wait            wait until every router's label table is the same for some seconds
#   lab.sh linkdown A B    take the link between routers A and B down; linkup A B brings it back
#   lab.sh vty N COMMAND   ask router N, for example: lab.sh vty 1 'show mpls table json'
#   lab.sh down            stop what this script started (by pid file) and delete its namespaces
#
#   r1 --- r2 --- r3       loopbacks 10.255.0.N/32; link A-B: 10.AB.0.1/30 at the lower number, .2 at the higher
#    |      |      |       management: 10.254.0.N, the collector at 10.254.0.254 in namespace frrlab-mgmt
#   r4 --- r5 --- r6
#
# Environment: BASE (folder for run files, must be set), PORT (of the collector, 30310),
#   IGP=ldp|isis (OSPF and LDP, or IS-IS segment routing), EXTRA=n (n more prefixes per router),
#   GROUPS_BY_ID=0|1 (next-hop groups by number, or labels inside each route).
#
# Needs root, FRR, iproute2 and gcc. Where the kernel has no MPLS, mplsshim.c lets zebra believe it has.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
BASE=${BASE:?folder for run files}
PORT=${PORT:-30310} IGP=${IGP:-ldp} EXTRA=${EXTRA:-0} GROUPS_BY_ID=${GROUPS_BY_ID:-1}
NODES="1 2 3 4 5 6"
LINKS="1-2 2-3 1-4 2-5 3-6 4-5 5-6"
MGMT=frrlab-mgmt
FRR=/usr/lib/frr
if [ "$IGP" = isis ]; then DAEMONS="zebra isisd"; else DAEMONS="zebra ospfd ldpd"; fi

space() { echo "frrlab-r$1"; }
inside() { local node=$1; shift; ip netns exec "$(space "$node")" "$@"; }
vty() { vtysh -N "frrlab$1" -c "$2"; }
pidfile() { echo "/var/run/frr/frrlab$1/$2.pid"; }

peers() { # NODE: the routers at the other ends of its links
  local link
  for link in $LINKS; do
    [ "${link%-*}" != "$1" ] || echo "${link#*-}"
    [ "${link#*-}" != "$1" ] || echo "${link%-*}"
  done
}

extra_prefixes() { # NODE
  local i
  for ((i = 0; i < EXTRA; i++)); do echo "172.$((16 + $1)).$((i / 250)).$((i % 250 + 1))/32"; done
}

zebra_settings() { # NODE
  echo "hostname r$1"
  echo "fpm address 10.254.0.254 port $PORT"
  [ "$GROUPS_BY_ID" = 1 ] || echo "no fpm use-next-hop-groups"
}

ospfd_settings() { # NODE
  local peer
  printf 'hostname r%s\ninterface lo\n ip ospf area 0\n' "$1"
  for peer in $(peers "$1"); do
    printf 'interface to-r%s\n ip ospf area 0\n ip ospf network point-to-point\n' "$peer"
    printf ' ip ospf hello-interval 1\n ip ospf dead-interval 4\n'
  done
  printf 'router ospf\n ospf router-id 10.255.0.%s\n passive-interface lo\n' "$1"
  printf ' timers throttle spf 50 100 1000\n timers throttle lsa all 100\n'
}

ldpd_settings() { # NODE
  local peer
  printf 'hostname r%s\nmpls ldp\n router-id 10.255.0.%s\n address-family ipv4\n' "$1" "$1"
  printf '  discovery transport-address 10.255.0.%s\n' "$1"
  printf '  discovery hello interval 1\n  discovery hello holdtime 4\n'
  for peer in $(peers "$1"); do echo "  interface to-r$peer"; done
  echo " exit-address-family"
}

isisd_settings() { # NODE
  local peer prefix index=$(($1 * 10000))
  printf 'hostname r%s\n' "$1"
  printf 'router isis CORE\n net 49.0001.0000.0000.%04d.00\n is-type level-2-only\n' "$1"
  printf ' spf-delay-ietf init-delay 50 short-delay 100'
  printf ' long-delay 1000 holddown 2000 time-to-learn 500\n'
  printf ' mpls-te on\n mpls-te router-address 10.255.0.%s\n' "$1"
  printf ' segment-routing global-block 16000 81534\n segment-routing node-msd 8\n'
  printf ' segment-routing prefix 10.255.0.%s/32 index %s\n' "$1" "$1"
  for prefix in $(extra_prefixes "$1"); do
    echo " segment-routing prefix $prefix index $index"
    index=$((index + 1))
  done
  echo " segment-routing on"
  printf 'interface lo\n ip router isis CORE\n isis passive\n'
  for peer in $(peers "$1"); do
    printf 'interface to-r%s\n ip router isis CORE\n isis network point-to-point\n' "$peer"
    printf ' isis hello-interval 1\n isis hello-multiplier 4\n'
  done
}

build_router() { # NODE
  local prefix
  ip netns add "$(space "$1")"
  inside "$1" ip link set lo up
  inside "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 \
    net.ipv4.conf.default.rp_filter=0
  inside "$1" ip addr add "10.255.0.$1/32" dev lo
  for prefix in $(extra_prefixes "$1"); do echo "addr add $prefix dev lo"; done \
    | inside "$1" ip -batch -
  ip link add mgmt0 netns "$(space "$1")" type veth peer name "r$1" netns $MGMT
  ip -n $MGMT link set "r$1" master br0 up
  inside "$1" ip addr add "10.254.0.$1/24" dev mgmt0
  inside "$1" ip link set mgmt0 up
}

build_link() { # LOWER HIGHER
  ip link add "to-r$2" netns "$(space "$1")" type veth peer name "to-r$1" netns "$(space "$2")"
  inside "$1" ip addr add "10.$1$2.0.1/30" dev "to-r$2"
  inside "$2" ip addr add "10.$1$2.0.2/30" dev "to-r$1"
  inside "$1" ip link set "to-r$2" up
  inside "$2" ip link set "to-r$1" up
}

start_daemon() { # NODE DAEMON
  local settings=/etc/frr/frrlab$1 options="" shim=""
  mkdir -p "$settings" "/var/run/frr/frrlab$1"
  "$2_settings" "$1" > "$settings/$2.conf"
  echo "no service integrated-vtysh-config" > "$settings/vtysh.conf"
  chown -R frr:frr "$settings" "/var/run/frr/frrlab$1"
  if [ "$2" = zebra ]; then
    options="-M dplane_fpm_nl"
    [ -d /proc/sys/net/mpls ] || shim=$BASE/mplsshim.so
  fi
  # shellcheck disable=SC2086  # options is empty or two words
  inside "$1" env LD_PRELOAD="$shim" "$FRR/$2" -d -N "frrlab$1" -f "$settings/$2.conf" \
    --log "file:$BASE/r$1.$2.log" $options
}

up() {
  local node link daemon interface
  mkdir -p "$BASE"
  chmod 777 "$BASE"
  [ -d /proc/sys/net/mpls ] || gcc -shared -fPIC -O1 -o "$BASE/mplsshim.so" "$HERE/mplsshim.c" -ldl
  ip netns add $MGMT
  ip -n $MGMT link set lo up
  ip -n $MGMT link add br0 type bridge
  ip -n $MGMT link set br0 up
  ip -n $MGMT addr add 10.254.0.254/24 dev br0
  for node in $NODES; do build_router "$node"; done
  for link in $LINKS; do build_link "${link%-*}" "${link#*-}"; done
  if [ -d /proc/sys/net/mpls ]; then
    for node in $NODES; do
      inside "$node" sysctl -qw net.mpls.platform_labels=1048575
      for interface in $(inside "$node" ls /sys/class/net); do
        inside "$node" sysctl -qw "net.mpls.conf.$interface.input=1"
      done
    done
  fi
  for node in $NODES; do
    for daemon in $DAEMONS; do start_daemon "$node" "$daemon"; done
  done
}

tables() { local node; for node in $NODES; do vty "$node" 'show mpls table json' 2>/dev/null || true; done; }

wait_stable() {
  local before="" now entries stable=0 deadline=$((SECONDS + 180))
  while [ $SECONDS -lt $deadline ]; do
    now=$(tables)
    entries=$(grep -c inLabel <<< "$now" || true)
    # Fewer entries than this: some router does not know every loopback yet.
    if [ "$now" = "$before" ] && [ "$entries" -ge 40 ]; then stable=$((stable + 1)); else stable=0; fi
    if [ $stable -ge 12 ]; then
      echo "$entries label entries in six routers, stable"
      return
    fi
    before=$now
    sleep 0.25
  done
  echo "the label tables did not become stable within 180 s" >&2
  return 1
}

stop_daemons() { # SIGNAL: to every daemon of the lab that still runs; fails when none does
  local node daemon pid found=1
  for node in $NODES; do
    for daemon in zebra ospfd ldpd isisd; do
      pid=$(cat "$(pidfile "$node" "$daemon")" 2>/dev/null) || continue
      if kill "-$1" "$pid" 2>/dev/null; then found=0; fi
    done
  done
  return $found
}

down() {
  local node try
  stop_daemons TERM || true
  for try in {1..20}; do stop_daemons 0 || break; sleep 0.2; done
  stop_daemons KILL || true
  for node in $NODES; do
    ip netns del "$(space "$node")" 2>/dev/null || true
    rm -rf "/var/run/frr/frrlab$node" "/etc/frr/frrlab$node"
  done
  ip netns del $MGMT 2>/dev/null || true
}

case ${1:-} in
  up) up ;;
  wait) wait_stable ;;
  linkdown) inside "$2" ip link set "to-r$3" down ;;
  linkup) inside "$2" ip link set "to-r$3" up ;;
  vty) vty "$2" "$3" ;;
  down) down ;;
  *) sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
