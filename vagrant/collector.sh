#!/usr/bin/env bash
# Provision the collector: tools to look at captures, and unspan in the path.
# Vagrant runs it as root; running it again does no harm.
#
#   collector.sh
set -euo pipefail

apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends tshark tcpdump ethtool

if [ ! -x /unspan/unspan ]; then
	echo "collector: there is no unspan yet: make build on the host, then vagrant rsync and vagrant provision collector" >&2
	exit 1
fi
install -m 0755 /unspan/unspan /usr/local/bin/unspan

# Room for the wrapping: a full-size frame and its ERSPAN headers.
ip link set dev eth1 mtu 1600
unspan check -i eth1
