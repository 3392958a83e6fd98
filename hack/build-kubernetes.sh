#!/usr/bin/env bash
# Builds kube-apiserver, etcd and kubectl into bin/k8s from the modules pinned in
# hack/tools/kubernetes, unless they are there in that version already. With the
# argument "stock": the rest of Kubernetes, which only test/bench needs, into bin/stock.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-control-plane}
if [[ "${what}" == control-plane && -n "${KUBEBUILDER_ASSETS:-}" ]]; then
	echo "Using the control plane in ${KUBEBUILDER_ASSETS} (KUBEBUILDER_ASSETS)"
	exit 0
fi

module=hack/tools/kubernetes
out=${PWD}/bin/k8s
if [[ "${what}" == stock ]]; then
	out=${PWD}/bin/stock
fi

version_of() { (cd "${module}" && go list -m -f '{{.Version}}' "$1"); }

# Upstream's own programs are built with these (hack/lib/golang.sh). Without the last one
# grpc brings in text/template, for which the linker keeps every method of every type:
# a third more program, in memory too.
kubernetes_tags=selinux,notest,grpcnotrace

# The version of the program that was built, as the Go toolchain recorded it.
built_version() {
	go version -m "$2" 2>/dev/null | awk -v module="$1" '($1 == "mod" || $1 == "dep") && $2 == module { print $3; exit }'
}

# The build tags of the program that was built, recorded likewise.
built_tags() { go version -m "$1" 2>/dev/null | sed -n 's/^\tbuild\t-tags=//p'; }

build() {
	local name=$1 module_path=$2 package=$3 tags=${4:-} want
	want=$(version_of "${module_path}")
	if [[ "$(built_version "${module_path}" "${out}/${name}")" == "${want}" && "$(built_tags "${out}/${name}")" == "${tags}" ]]; then
		return
	fi
	echo "Building ${name} ${want} (once; minutes on a small machine)"
	local minor=${want#v*.}
	(cd "${module}" && CGO_ENABLED=0 go build -trimpath -tags="${tags}" -ldflags "-s -w \
		-X k8s.io/component-base/version.gitVersion=${want} \
		-X k8s.io/component-base/version.gitMajor=1 \
		-X k8s.io/component-base/version.gitMinor=${minor%%.*}" -o "${out}/${name}" "${package}")
}

mkdir -p "${out}"
case "${what}" in
control-plane)
	build etcd go.etcd.io/etcd/server/v3 go.etcd.io/etcd/server/v3
	build kube-apiserver k8s.io/kubernetes k8s.io/kubernetes/cmd/kube-apiserver "${kubernetes_tags}"
	build kubectl k8s.io/kubernetes k8s.io/kubernetes/cmd/kubectl "${kubernetes_tags}"
	;;
stock)
	for name in kubelet kube-proxy kube-controller-manager kube-scheduler; do
		build "${name}" k8s.io/kubernetes "k8s.io/kubernetes/cmd/${name}" "${kubernetes_tags}"
	done
	;;
*)
	echo "usage: $0 [control-plane|stock]" >&2
	exit 2
	;;
esac
