#!/usr/bin/env bash
# Gets the clients of others that test/e2e/clients runs through the gateway, those that
# are not there in their pinned version already: Helm 3, Helm 4 and an older kubectl,
# built from the modules in hack/tools, and the JavaScript client from npm. All go to
# bin/clients.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${PWD}/bin/clients
mkdir -p "${out}"

# The version of the program that was built, as the Go toolchain recorded it.
built_version() {
	go version -m "$2" 2>/dev/null | awk -v module="$1" '($1 == "mod" || $1 == "dep") && $2 == module { print $3; exit }'
}

# build NAME FOLDER MODULE PACKAGE VERSION-PACKAGE
build() {
	local name=$1 folder=hack/tools/$2 module=$3 package=$4 variables=$5 want
	want=$(cd "${folder}" && go list -m -f '{{.Version}}' "${module}")
	if [[ "$(built_version "${module}" "${out}/${name}")" == "${want}" ]]; then
		return
	fi
	echo "Building ${name} ${want} (once; minutes on a small machine)"
	(cd "${folder}" && CGO_ENABLED=0 go build -ldflags "-s -w ${variables//VERSION/${want}}" -o "${out}/${name}" "${package}")
}

build helm3 helm helm.sh/helm/v3 helm.sh/helm/v3/cmd/helm \
	"-X helm.sh/helm/v3/internal/version.version=VERSION"
build helm4 helm helm.sh/helm/v4 helm.sh/helm/v4/cmd/helm \
	"-X helm.sh/helm/v4/internal/version.version=VERSION"
build kubectl-1.32 kubectl k8s.io/kubernetes k8s.io/kubernetes/cmd/kubectl \
	"-X k8s.io/component-base/version.gitVersion=VERSION -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=32"

# npm installs what the lock names into a folder of its own, and nothing else of ours.
javascript=test/e2e/clients/javascript
if [[ ! -e "${out}/javascript/package-lock.json" ]] || ! cmp -s "${javascript}/package-lock.json" "${out}/javascript/package-lock.json"; then
	if ! command -v npm >/dev/null; then
		echo "npm is missing: install Node.js 20 or later with npm" >&2
		exit 1
	fi
	echo "Installing the JavaScript client"
	rm -rf "${out}/javascript"
	mkdir -p "${out}/javascript.new"
	cp "${javascript}/package.json" "${javascript}/package-lock.json" "${out}/javascript.new/"
	(cd "${out}/javascript.new" && npm ci --ignore-scripts --no-audit --no-fund --silent)
	mv "${out}/javascript.new" "${out}/javascript"
fi
