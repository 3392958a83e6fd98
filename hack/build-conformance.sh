#!/usr/bin/env bash
# Builds what the official conformance suite needs into bin/conformance, each part
# once: the suite and its runner, the programs in its images, and the Debian files
# under those programs. Needs root for the Debian files (debootstrap) and installs the
# packages that are missing; everything comes from the Go module proxy and the Debian
# archive. test/conformance makes images of it.
set -euo pipefail
cd "$(dirname "$0")/.."

root=${PWD}
out=${root}/bin/conformance
module=${root}/hack/tools/conformance
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | head -1)}
mkdir -p "${out}"

packages=()
for package in debootstrap gcc libc6-dev make bzip2 dpkg-dev; do
	if [[ "$(dpkg-query -W -f '${Status}' "${package}" 2>/dev/null)" != "install ok installed" ]]; then
		packages+=("${package}")
	fi
done
if [[ ${#packages[@]} -gt 0 ]]; then
	echo "Installing ${packages[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

version_of() { (cd "${module}" && go list -m -f '{{.Version}}' "$1"); }

# The suite asks programs for their version and compares.
kubernetes=$(version_of k8s.io/kubernetes)
version=k8s.io/component-base/version
minor=${kubernetes#v*.}
ldflags="-s -w -X ${version}.gitVersion=${kubernetes} -X ${version}.gitMajor=1 -X ${version}.gitMinor=${minor%%.*}"
ldflags+=" -X ${version}.gitCommit=0000000000000000000000000000000000000000 -X ${version}.gitTreeState=clean"
ldflags+=" -X ${version}.buildDate=2026-01-01T00:00:00Z"

# build NAME COMMAND...: runs the command unless NAME was built from this go.sum.
stamp=$(cksum "${module}/go.mod" "${module}/go.sum" | cksum)
build() {
	local name=$1
	shift
	if [[ -e "${out}/${name}" && "$(cat "${out}/.${name}" 2>/dev/null)" == "${stamp}" ]]; then
		return
	fi
	echo "Building ${name} (once; minutes on a small machine)"
	(cd "${module}" && CGO_ENABLED=0 nice "$@" -trimpath -ldflags "${ldflags}" -o "${out}/${name}" "${package}")
	echo "${stamp}" >"${out}/.${name}"
}
package=github.com/onsi/ginkgo/v2/ginkgo build ginkgo go build
package=k8s.io/kubernetes/test/images/agnhost build agnhost go build
package=k8s.io/kubernetes/test/images/nonewprivs build nonewprivs go build
package=k8s.io/sample-apiserver build sample-apiserver go build
package=k8s.io/kubernetes/test/e2e build e2e.test go test -c

# What upstream's images hold beside programs.
sources=$(cd "${module}" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images
for folder in kitten nautilus; do
	mkdir -p "${out}/${folder}"
	install -m 0644 "${sources}/${folder}"/html/* "${out}/${folder}/"
done
install -m 0644 "${sources}"/agnhost/porter/localhost.{crt,key} "${out}/"

# Upstream's busybox in its default configuration: Debian's ash forgets environment
# variables whose names hold a dash, and tests use such names.
if [[ ! -x "${out}/busybox" ]]; then
	echo "Building busybox"
	work=$(mktemp -d)
	mkdir -p "${work}/state/lists/partial" "${work}/cache/archives/partial"
	echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror} trixie main" >"${work}/sources.list"
	apt=(apt-get -qq -o "Dir::Etc::sourcelist=${work}/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State=${work}/state" -o "Dir::Cache=${work}/cache" -o APT::Sandbox::User=root)
	(
		cd "${work}"
		"${apt[@]}" update
		"${apt[@]}" source --download-only busybox
		mkdir source
		tar -xf busybox_*.orig.tar.bz2 -C source --strip-components 1
		cd source
		make defconfig >/dev/null
		# CONFIG_TC does not compile with the headers of newer kernels.
		sed -i 's/# CONFIG_STATIC is not set/CONFIG_STATIC=y/; s/^CONFIG_TC=y/# CONFIG_TC is not set/' .config
		(yes '' || true) | make oldconfig >/dev/null
		nice make -j"$(nproc)" busybox >/dev/null 2>&1
		install -m 0755 busybox "${out}/busybox"
	)
	rm -rf "${work}"
fi

# The files that most images of the suite stand on; upstream's stand on Alpine.
if [[ ! -e "${out}/base.tar" ]]; then
	echo "Assembling the Debian files of the images"
	work=$(mktemp -d)
	base=${work}/base
	nice debootstrap --variant=minbase \
		--include=ca-certificates,bash,dnsutils,curl,netcat-openbsd,iputils-ping,iproute2,iperf,socat,nginx-light,procps \
		bookworm "${base}" "${mirror}" >"${work}/log" 2>&1 || { tail -20 "${work}/log" >&2; exit 1; }
	rm -rf "${base}"/var/cache/apt/archives/*.deb "${base}"/var/lib/apt/lists/* "${base}"/dev/* \
		"${base}"/usr/share/{doc,man,locale}/* "${base}/etc/hostname"
	: >"${base}/etc/resolv.conf"
	install -m 0755 "${out}/busybox" "${base}/usr/bin/busybox"
	for tool in $("${out}/busybox" --list); do
		found=
		for folder in usr/bin usr/sbin; do
			if [[ -e "${base}/${folder}/${tool}" || -L "${base}/${folder}/${tool}" ]]; then
				found=yes
			fi
		done
		[[ -n "${found}" ]] || ln -s busybox "${base}/usr/bin/${tool}"
	done
	tar --numeric-owner --sort=name --mtime=@0 -C "${base}" -cf "${out}/base.tar.new" .
	mv "${out}/base.tar.new" "${out}/base.tar"
	rm -rf "${work}"
fi
echo "The parts of the conformance suite are in ${out#"${root}/"}"
