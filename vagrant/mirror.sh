#!/usr/bin/env bash
# Provision the mirror source: Linux's own ERSPAN II sender, session 100, fed
# with copies of all that crosses eth0. Vagrant runs it as root; running it
# again begins anew.
#
#   mirror.sh LOCAL-ADDRESS COLLECTOR-ADDRESS
set -euo pipefail

if [ $# -ne 2 ]; then
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
	exit 2
fi

ip link set dev eth1 mtu 1600

ip link delete erspan1 2>/dev/null || true
ip link add erspan1 type erspan local "$1" remote "$2" seq key 100 erspan_ver 1 erspan 1 # version 1 is type II: ip-link(8)
ip link set dev erspan1 up

# Both directions. The feed itself leaves by eth1, so it does not mirror itself.
tc qdisc replace dev eth0 clsact
for direction in ingress egress; do
	tc filter replace dev eth0 "$direction" pref 1 handle 1 matchall \
		action mirred egress mirror dev erspan1
done
echo "mirror: eth0 is mirrored to $2 as ERSPAN II, session 100"
