#!/usr/bin/env bash
# Checks everything that can be checked without running a test: generated files are
# current, linters are content, every requirement names a test that exists. It
# writes only what `make generate manifests` writes; a file that changes by that is
# a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# The state of the tree: tracked changes and the content of untracked files.
tree() {
	{
		git diff HEAD
		git ls-files --others --exclude-standard -z | sort -z | xargs -0 -r sha256sum
	} | sha256sum
}

failed=()
check() {
	local name=$1
	shift
	local start=${SECONDS}
	if "$@"; then
		echo "ok    ${name} ($((SECONDS - start))s)"
	else
		echo "FAIL  ${name}: $*" >&2
		failed+=("${name}")
	fi
}

generated() {
	local before
	before=$(tree)
	make --no-print-directory generate manifests >/dev/null || return 1
	if [[ "$(tree)" != "${before}" ]]; then
		echo "generated files were not current; commit what changed:" >&2
		git status --short >&2
		return 1
	fi
}

shell_scripts() {
	local file rc=0
	for file in hack/*.sh .ci/run; do
		bash -n "${file}" || rc=1
	done
	return "${rc}"
}

modules() {
	local dir rc=0
	for dir in . hack/tools hack/tools/lint hack/tools/helm hack/tools/kubectl; do
		(cd "${dir}" && go mod tidy -diff) || rc=1
	done
	return "${rc}"
}

check "generated files" generated
check "shell scripts" shell_scripts
check "modules" modules
check "requirements" go run ./hack/requirements check
check "linters" bin/golangci-lint run

if [[ -n "${CI:-}" && -n "$(git status --porcelain)" ]]; then
	echo "FAIL  clean tree:" >&2
	git status --short >&2
	failed+=("clean tree")
fi
if ((${#failed[@]} > 0)); then
	echo "verify failed: ${failed[*]}" >&2
	exit 1
fi
