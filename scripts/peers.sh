#!/bin/sh
# Installs what the bench `peers` sets beside the collector: rsyslog, ClickHouse, xymon and
# VictoriaMetrics, as Debian 12 packages them. Needs root.
#
#   scripts/peers.sh          installs what is missing; 1 if something still is
#   scripts/peers.sh --list   says what is there
#
# The bench starts each program itself, on ports and in folders of its own, and stops it again.
# None is to run as a service: a package that starts one on installation is kept from it here.
set -eu

programs="rsyslog=/usr/sbin/rsyslogd
clickhouse-server=/usr/sbin/clickhouse-server
xymon=/usr/lib/xymon/server/bin/xymond
victoria-metrics=/usr/bin/victoria-metrics
strace=/usr/bin/strace"

list() {
    for entry in $programs; do
        if [ -x "${entry#*=}" ]; then
            echo "${entry%%=*}: ${entry#*=}"
        else
            echo "${entry%%=*}: not installed"
        fi
    done
}

case "${1:-}" in
    --list) list; exit 0 ;;
    "") ;;
    *) echo "peers.sh: expected nothing or --list, found \`$1\`" >&2; exit 2 ;;
esac

missing=""
for entry in $programs; do
    [ -x "${entry#*=}" ] || missing="$missing ${entry%%=*}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "peers.sh: only root installs packages; missing:$missing" >&2
        exit 1
    fi
    if ! command -v apt-get > /dev/null; then
        echo "peers.sh: expected apt-get, found none; install by hand what is missing:$missing" >&2
        exit 1
    fi
    # Debian's way to say that packages may not start services: 101 is "not allowed".
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
    fi
    apt-get update
    for package in $missing; do
        # One after another: what this release does not have leaves the others alone.
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$package" ||
            echo "peers.sh: $package could not be installed; the bench skips it" >&2
    done
    # Nor with the next boot, where systemd is there to do so.
    if command -v systemctl > /dev/null; then
        for service in $missing; do
            [ "$service" = strace ] || systemctl disable "$service" > /dev/null 2>&1 || true
        done
    fi
fi
list
missing=$(list | sed -n 's/: not installed$//p' | tr '\n' ' ')
if [ -n "$missing" ]; then
    echo "peers.sh: still missing: $missing- the bench skips them, and says so" >&2
    exit 1
fi
