#!/usr/bin/env bash
# Runs a command in a virtual machine with another kernel: Debian's, with cgroup v2 alone
# and AppArmor or SELinux. It sees the files of this machine, changes none of them, has no
# network, and is gone afterwards.
#
#   hack/vm.sh COMMAND...         as root; $OUT in it is a folder that is copied to bin/vm/out
#
# VM_LSM=selinux has SELinux instead of AppArmor, enforcing the policy of hack/vm/selinux.
# The first use gets kernel, apparmor_parser and secilc from the Debian archive (VM_SUITE, such
# as bookworm-backports) into bin/vm; nothing is installed. Needs qemu-system-x86, kmod, cpio,
# busybox-static, xz-utils. Where KVM does not work the processor is emulated, some ten times
# slower: VM_KVM=1 uses KVM. VM_MEMORY (MiB), VM_TIMEOUT (seconds).
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${PWD}/bin/vm
suite=${VM_SUITE:-bookworm-backports}
memory=${VM_MEMORY:-3072}
timeout=${VM_TIMEOUT:-1800}
lsm=${VM_LSM:-apparmor}
modules=(9p 9pnet_virtio overlay virtio_blk ext4 virtio_pci)

if (($# == 0)) || [[ "$(id -u)" != 0 ]]; then
	echo "usage, as root: $0 COMMAND..." >&2
	exit 2
fi
if [[ ${lsm} != apparmor && ${lsm} != selinux ]]; then
	echo "VM_LSM=${lsm}: apparmor and selinux are known" >&2
	exit 2
fi
for program in qemu-system-x86_64 depmod cpio busybox; do
	if ! command -v "${program}" >/dev/null; then
		echo "${program} is missing: apt-get install qemu-system-x86 kmod cpio busybox-static" >&2
		exit 1
	fi
done

# Gets the newest kernel of the suite, and what loads AppArmor profiles, without installing.
get_packages() {
	local apt=${dir}/apt kernel
	mkdir -p "${apt}/lists" "${apt}/cache" "${dir}/packages"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian ${suite} main" >"${apt}/sources.list"
	cat >"${apt}/config" <<-EOF
		Dir::Etc::sourcelist "${apt}/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "${apt}/lists";
		Dir::Cache "${apt}/cache";
		APT::Sandbox::User "root";
	EOF
	APT_CONFIG=${apt}/config apt-get update -qq
	kernel=$(APT_CONFIG=${apt}/config apt-cache search --names-only '^linux-image-[0-9].*-amd64$' |
		awk '$1 !~ /(rt|cloud)-amd64$/ { print $1 }' | sort -V | tail -1)
	(cd "${dir}/packages" && APT_CONFIG=${apt}/config apt-get download -qq "${kernel}" && apt-get download -qq -o APT::Sandbox::User=root apparmor)
	local package
	for package in "${dir}"/packages/*.deb; do
		dpkg-deb -x "${package}" "${dir}/root"
	done
	rm -rf "${dir}/packages" "${apt}"
	depmod -b "${dir}/root" "$(ls "${dir}/root/lib/modules")"
}

# Gets the compiler of SELinux policies, without installing.
get_secilc() {
	mkdir -p "${dir}/packages" "${dir}/secilc"
	(cd "${dir}/packages" && apt-get download -qq -o APT::Sandbox::User=root secilc libsepol2)
	local package
	for package in "${dir}"/packages/*.deb; do
		dpkg-deb -x "${package}" "${dir}/secilc"
	done
	rm -rf "${dir}/packages"
}

# Compiles the policy, with the categories that tell containers apart.
make_policy() {
	local library
	library=$(dirname "$(find "${dir}/secilc" -name libsepol.so.2)")
	{
		printf '(category c%d)\n' {0..1023}
		echo "(categoryorder ($(echo c{0..1023})))"
	} >"${dir}/categories.cil"
	LD_LIBRARY_PATH=${library} "${dir}/secilc/usr/bin/secilc" -o "${dir}/policy" -f /dev/null hack/vm/selinux/policy.cil "${dir}/categories.cil"
}

# Makes the first file system of the machine: busybox, and the modules that find the others.
make_initramfs() {
	local tree version number=100 file
	version=$(ls "${dir}/root/lib/modules")
	tree=$(mktemp -d)
	mkdir -p "${tree}"/{bin,proc,sys,dev,modules}
	cp "$(command -v busybox)" "${tree}/bin/busybox"
	for module in "${modules[@]}"; do
		modprobe -d "${dir}/root" -S "${version}" --show-depends "${module}" 2>/dev/null
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"${tree}/order"
	while read -r file; do
		cp "${file}" "${tree}/modules/${number}-$(basename "${file}")"
		number=$((number + 1))
	done <"${tree}/order"
	find "${tree}/modules" -name '*.xz' -exec xz -d {} +
	cp hack/vm/init "${tree}/init"
	[[ ${lsm} != selinux ]] || cp "${dir}/policy" "${tree}/policy"
	(cd "${tree}" && find . | cpio -o -H newc --quiet | gzip -1) >"${dir}/initramfs"
	rm -rf "${tree}"
}

mkdir -p "${dir}"
[[ -e ${dir}/root/sbin/apparmor_parser ]] || get_packages
arguments="apparmor=1 security=apparmor"
if [[ ${lsm} == selinux ]]; then
	[[ -e ${dir}/secilc/usr/bin/secilc ]] || get_secilc
	make_policy
	arguments="security=selinux enforcing=1"
fi
make_initramfs

work=$(mktemp -d "${dir}/run.XXXX")
trap 'rm -rf "${work}"' EXIT
truncate -s 12G "${work}/disk"
mkfs.ext4 -q -F -O ^has_journal "${work}/disk"
mkdir "${work}/share"
printf '%s\n' "$*" >"${work}/share/command"
printf '%s\n' "${PWD}" >"${work}/share/folder"

accelerator=(-accel "tcg,thread=multi" -cpu max)
[[ -n "${VM_KVM:-}" ]] && accelerator=(-accel kvm -cpu host)
timeout "${timeout}" qemu-system-x86_64 "${accelerator[@]}" -smp 2 -m "${memory}" -nographic -no-reboot -nodefaults -serial stdio \
	-kernel "${dir}"/root/boot/vmlinuz-* -initrd "${dir}/initramfs" \
	-append "console=ttyS0 quiet panic=-1 ${arguments}" \
	-drive "file=${work}/disk,format=raw,if=virtio,cache=unsafe" \
	-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=host,mount_tag=host \
	-fsdev "local,id=share,path=${work}/share,security_model=none" -device virtio-9p-pci,fsdev=share,mount_tag=share </dev/null
rm -rf "${dir}/out"
[[ ! -d ${work}/share/out ]] || cp -r "${work}/share/out" "${dir}/out"
if [[ ! -e ${work}/share/status ]]; then
	echo "the machine ended without a result" >&2
	exit 125
fi
exit "$(cat "${work}/share/status")"
