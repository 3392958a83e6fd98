#!/usr/bin/env bash
# Builds containerd, its shim, ctr and runc into bin/containerd from the modules pinned in
# hack/tools/containerd, unless they are there in that version already. Put first in PATH
# they take the place of the distribution's, for tests and benchmarks. runc needs a C
# compiler, and libseccomp's headers (apt-get install libseccomp-dev pkg-config).
set -euo pipefail
cd "$(dirname "$0")/.."

module=hack/tools/containerd
out=${PWD}/bin/containerd

# The version of the program that was built, as the Go toolchain recorded it.
built_version() {
	go version -m "$2" 2>/dev/null | awk -v module="$1" '($1 == "mod" || $1 == "dep") && $2 == module { print $3; exit }'
}

# build NAME MODULE PACKAGE CGO FLAGS...
build() {
	local name=$1 path=$2 package=$3 cgo=$4 want
	shift 4
	want=$(cd "${module}" && go list -m -f '{{.Version}}' "${path}")
	if [[ "$(built_version "${path}" "${out}/${name}")" == "${want}" ]]; then
		return
	fi
	echo "Building ${name} ${want} (once; minutes on a small machine)"
	(cd "${module}" && CGO_ENABLED=${cgo} go build "$@" -o "${out}/${name}" "${package}")
}

if ! pkg-config --exists libseccomp; then
	echo "runc needs libseccomp's headers: apt-get install libseccomp-dev pkg-config" >&2
	exit 1
fi
mkdir -p "${out}"
containerd=github.com/containerd/containerd/v2
version=$(cd "${module}" && go list -m -f '{{.Version}}' "${containerd}")
for name in containerd containerd-shim-runc-v2 ctr; do
	build "${name}" "${containerd}" "${containerd}/cmd/${name}" 0 -ldflags "-X ${containerd}/version.Version=${version}"
done
build runc github.com/opencontainers/runc github.com/opencontainers/runc 1 -tags seccomp
