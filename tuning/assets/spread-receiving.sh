#!/bin/sh
# Spreads what an interface receives over all processors: interrupts of its queues in turn, and
# RPS where there are fewer queues than processors.
#
#   spread-receiving.sh INTERFACE           prints the commands
#   spread-receiving.sh INTERFACE --apply   runs them; lasts until the next boot
#
# ROOT in the environment stands for / : a tree of files instead of this host.
set -eu

root=${ROOT:-}
interface=${1:-}
mode=${2:-print}
folder=$root/sys/class/net/$interface

fail() {
    echo "spread-receiving.sh: $*" >&2
    exit 2
}

[ -n "$interface" ] || fail "which interface? usage: spread-receiving.sh INTERFACE [--apply]"
[ -d "$folder/queues" ] || fail "there is no interface \`$interface\` in $root/sys/class/net"
case $mode in
    print | --apply) ;;
    *) fail "\`$mode\` is neither nothing nor --apply" ;;
esac

# write VALUE FILE
write() {
    echo "echo $1 > $2"
    if [ "$mode" = --apply ]; then echo "$1" > "$2"; fi
}

# The processors that are online, one per line: "0-3,8" is 0 1 2 3 8.
processors=$(tr ',' '\n' < "$root/sys/devices/system/cpu/online" | while IFS=- read -r first last; do
    seq "$first" "${last:-$first}"
done)
count=$(echo "$processors" | wc -l)

# A mask of those processors, in groups of 32 bits, the highest first.
mask=$(echo "$processors" | awk '
    BEGIN { last = 0 }
    { group = int($1 / 32); bits[group] += 2 ^ ($1 % 32); if (group > last) last = group }
    # Halves: some awks print no number of 32 bits in hexadecimal.
    function word(number) { return sprintf("%04x%04x", int(number / 65536), number % 65536) }
    END {
        text = word(bits[last])
        for (group = last - 1; group >= 0; group--) text = text "," word(bits[group])
        print text
    }')

# Interrupts of the device, where it has some of its own: one processor after the other.
turn=0
for interrupt in "$folder"/device/msi_irqs/*; do
    [ -e "$interrupt" ] || continue
    turn=$((turn % count + 1))
    processor=$(echo "$processors" | sed -n "${turn}p")
    write "$processor" "$root/proc/irq/${interrupt##*/}/smp_affinity_list"
done

queues=0
for queue in "$folder"/queues/rx-*; do queues=$((queues + 1)); done
if [ "$queues" -ge "$count" ]; then
    echo "# $interface has $queues receive queues for $count processors: no RPS needed"
    exit 0
fi
for queue in "$folder"/queues/rx-*; do
    write "$mask" "$queue/rps_cpus"
done
