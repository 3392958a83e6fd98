#!/usr/bin/env bash
# Installs the Debian packages that Keelson and its tests call, those that are
# missing only. Needs root when something is missing.
set -euo pipefail

# What runs a cluster: containerd runc iptables. What its tests call: iproute2, openssl.
# What builds and checks: gcc (the pause and logger programs), git.
# What test images are made of: busybox-static, redis-server.
# Clients of others that tests run: python3-kubernetes; Node.js with npm, unless there
# is one from elsewhere.
packages=(containerd runc iptables iproute2 openssl gcc git busybox-static redis-server python3-kubernetes)
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	packages+=(nodejs npm)
fi

# Elsewhere than on Debian and its kin, look for the programs themselves.
if ! command -v dpkg-query apt-get >/dev/null; then
	missing=()
	for program in containerd containerd-shim-runc-v2 runc iptables ip openssl gcc git busybox redis-server python3 node npm; do
		command -v "${program}" >/dev/null || missing+=("${program}")
	done
	if [[ ${#missing[@]} -gt 0 ]]; then
		echo "This system has no apt-get; install what provides: ${missing[*]}" >&2
		exit 1
	fi
	exit 0
fi

missing=()
for package in "${packages[@]}"; do
	if [[ "$(dpkg-query -W -f '${Status}' "${package}" 2>/dev/null)" != "install ok installed" ]]; then
		missing+=("${package}")
	fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
	exit 0
fi
if [[ "$(id -u)" -ne 0 ]]; then
	echo "Missing packages; install them as root: apt-get install ${missing[*]}" >&2
	exit 1
fi

# Redis is needed as a file for images, not as a service of this machine.
policy=/usr/sbin/policy-rc.d
if [[ ! -e "${policy}" ]]; then
	trap 'rm -f "${policy}"' EXIT
	printf '#!/bin/sh\n[ "$1" = redis-server ] && exit 101\nexit 0\n' >"${policy}"
	chmod 0755 "${policy}"
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
