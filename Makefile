# Everything a contributor or a user runs. `make help` explains the targets.
#
# bin/ holds what is built, here and once: our programs, the control plane and the
# tools. It can be removed at any time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Prerequisites are steps in order here: what is missing is installed before it is
# used. The compiler runs in parallel by itself.
.NOTPARALLEL:

DATA_DIR ?= .keelson
# More flags for `keelson up` and for the demo, see their --help.
UP_FLAGS ?=
DEMO_FLAGS ?=

# Programs and tests are compiled the same way, so that each package is compiled
# once: static, hence without cgo.
export CGO_ENABLED := 0

# Without it grpc brings in text/template, for which the linker keeps every method of
# every type: a third more program, on disk and in memory (test/e2e checks it).
export GOFLAGS := $(strip $(filter-out -tags=grpcnotrace,$(GOFLAGS)) -tags=grpcnotrace)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo v0.0.0-dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
VERSION_PKG := github.com/keelson-dev/keelson/version
LDFLAGS := -s -w -X $(VERSION_PKG).gitVersion=$(VERSION) -X $(VERSION_PKG).gitCommit=$(COMMIT)

# Unit tests are those beside the code, also the ones that need the kernel or a real
# containerd; integration tests need a control plane, end-to-end tests a cluster.
UNIT_PACKAGES = $$(go list ./... | grep -v -e /test/integration -e /test/e2e)
TEST_FLAGS ?=

##@ Run

.PHONY: up
up: build k8s ## Start a one-node cluster on this machine and wait until it is ready (as root).
	bin/keelson up --data-dir $(DATA_DIR) $(UP_FLAGS)

.PHONY: down
down: bin/keelson-present ## End the cluster and remove every trace of it.
	bin/keelson down --data-dir $(DATA_DIR)

.PHONY: status
status: bin/keelson-present ## Show the components of the cluster.
	bin/keelson status --data-dir $(DATA_DIR)

.PHONY: demo
demo: deps up ## Install what is missing, start the cluster, run the Guestbook on it and drive it.
	@go run ./hack/demo --kubeconfig $(DATA_DIR)/admin.kubeconfig --kubectl "$${KUBEBUILDER_ASSETS:-bin/k8s}/kubectl" $(DEMO_FLAGS)

##@ Build

.PHONY: build
build: bin/pause bin/keelson-logger ## Build our programs into bin/.
	@mkdir -p bin
	@echo "Building keelson, keelson-manager, keelson-node, keelson-gateway and keelson-dns $(VERSION) into bin/"
	@go build -ldflags '$(LDFLAGS)' -o bin/keelson ./cmd/keelson
	@ln -sf keelson bin/kubectl-keelson
	@go build -ldflags '$(LDFLAGS)' -o bin/keelson-manager ./cmd/manager
	@go build -ldflags '$(LDFLAGS)' -o bin/keelson-node ./cmd/nodeagent
	@go build -ldflags '$(LDFLAGS)' -o bin/keelson-gateway ./cmd/gateway
	@go build -ldflags '$(LDFLAGS)' -o bin/keelson-dns ./cmd/dns

bin/pause: build/pause/pause.c build/pause/Makefile
	@$(MAKE) --no-print-directory -C build/pause OUT=$(CURDIR)/bin/pause

bin/keelson-logger: build/logger/logger.c build/logger/system.h build/logger/Makefile
	@$(MAKE) --no-print-directory -C build/logger OUT=$(CURDIR)/bin/keelson-logger

.PHONY: bin/keelson-present
bin/keelson-present:
	@test -x bin/keelson || { echo "bin/keelson is missing: run 'make build' first" >&2; exit 1; }

.PHONY: k8s
k8s: ## Build kube-apiserver, etcd and kubectl once from their pinned modules (KUBEBUILDER_ASSETS overrides).
	hack/build-kubernetes.sh

.PHONY: clients
clients: ## Get the clients of others that the end-to-end tests run, once: Helm 3 and 4, an older kubectl, JavaScript.
	hack/build-clients.sh

.PHONY: images
images: ## Build the container images of the server programs (needs docker).
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --target manager -t keelson-manager:$(VERSION) .
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --target node -t keelson-node:$(VERSION) .
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --target gateway -t keelson-gateway:$(VERSION) .
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --target dns -t keelson-dns:$(VERSION) .

.PHONY: deps
deps: ## Install the Debian packages that are missing (as root); does nothing when none is.
	hack/deps.sh

##@ Test

.PHONY: test
test: deps build k8s ## Run every test of the project (as root).
	$(MAKE) test-unit test-integration test-e2e

.PHONY: test-unit
test-unit: bin/pause bin/keelson-logger k8s ## Run the tests beside the code, also those on the real kernel and containerd.
	go test $(TEST_FLAGS) $(UNIT_PACKAGES)

# Packages of test-vm, and flags of their tests, such as -test.run=AppArmor. Not in continuous
# integration: where KVM does not work, nodeagent/runtime/containerd takes over an hour.
VM_TESTS ?= nodeagent/cgroups nodeagent/stats nodeagent/node nodeagent/eviction nodeagent/userns
VM_TEST_FLAGS ?=
# What confines containers there: apparmor or selinux.
VM_LSM ?= apparmor

.PHONY: test-vm
test-vm: bin/pause bin/keelson-logger ## Run VM_TESTS in a virtual machine with cgroup v2 and AppArmor or SELinux (as root; see hack/vm.sh).
	@mkdir -p bin/vm/tests
	@for package in $(VM_TESTS); do CGO_ENABLED=0 go test -c -o bin/vm/tests/$${package//\//_} ./$$package || exit 1; done
	VM_LSM=$(VM_LSM) hack/vm.sh "VM_TEST_FLAGS='$(VM_TEST_FLAGS)' hack/vm/tests $(VM_TESTS)"

.PHONY: test-integration
test-integration: k8s ## Run the tests against a real kube-apiserver and etcd.
	go test $(TEST_FLAGS) ./test/integration/...

.PHONY: test-e2e
test-e2e: build k8s clients ## Run the tests against a whole cluster, in namespaces of their own.
	go test $(TEST_FLAGS) -count=1 -timeout 40m ./test/e2e/...

# BENCH_FLAGS="--stock bin/stock" measures stock Kubernetes instead, built by `make stock`.
BENCH_FLAGS ?=

.PHONY: bench
bench: build k8s ## Measure Pod starts and the cost of the processes, in namespaces of their own (as root).
	go run ./test/bench $(BENCH_FLAGS)

# Flags of `go run ./test/conformance run`, such as --focus; see its --help.
CONFORMANCE_FLAGS ?=

.PHONY: conformance
conformance: build k8s conformance-images ## Run the conformance tests of Kubernetes (as root; over half an hour).
	go run ./test/conformance run $(CONFORMANCE_FLAGS)

.PHONY: conformance-check
conformance-check: build k8s conformance-images ## Run a sample of the conformance tests that must pass (as root).
	go run ./test/conformance check

.PHONY: conformance-images
conformance-images: bin/conformance/images/index.json ## Build the conformance tests and their images once (as root; needs the Debian archive).

bin/conformance/images/index.json: hack/build-conformance.sh test/conformance/images.go hack/tools/conformance/go.sum bin/pause | k8s
	hack/build-conformance.sh
	go run ./test/conformance images

.PHONY: stock
stock: ## Build the kubelet and the other stock programs that bench compares with.
	hack/build-kubernetes.sh stock

# To use it: PATH=$$PWD/bin/containerd:$$PATH make test-unit (or bench, or bin/keelson up).
.PHONY: containerd
containerd: ## Build containerd 2 and a new runc into bin/containerd, for tests and benchmarks.
	hack/build-containerd.sh

.PHONY: requirements
requirements: ## Print how many requirements work, by file and status.
	go run ./hack/requirements counts

##@ Maintain

.PHONY: generate
generate: bin/controller-gen ## Write the generated Go code and documents again.
	bin/controller-gen object:headerFile=hack/boilerplate.go.txt paths=./apis/...
	go run ./hack/supportdoc > docs/support.md

# Whose markers (rbac.go) make which role: the hygiene controllers run in standalone
# mode only.
HYGIENE := clusterroleaggregation csrcleaner garbagecollector namespace rootca serviceaccount servicemirror storageprotection tokens
semicolon := ;
space := $(subst ,, )
role_paths = $(subst $(space),$(semicolon),$(addprefix ./controllers/,$(1)))
HYGIENE_ROLE = $(call role_paths,$(HYGIENE))
MANAGER_ROLE = $(call role_paths,$(filter-out $(HYGIENE),$(patsubst controllers/%/rbac.go,%,$(sort $(wildcard controllers/*/rbac.go)))))

.PHONY: manifests
manifests: bin/controller-gen ## Write the CRDs and the RBAC roles again.
	bin/controller-gen crd:maxDescLen=140,generateEmbeddedObjectMeta=true paths=./apis/... output:crd:dir=config/crd/bases
	go run ./hack/crdkeys config/crd/bases
	bin/controller-gen rbac:roleName=keelson-manager 'paths=$(MANAGER_ROLE)' output:rbac:dir=config/rbac/manager
	bin/controller-gen rbac:roleName=keelson-manager-hygiene 'paths=$(HYGIENE_ROLE)' output:rbac:dir=config/rbac/hygiene
	bin/controller-gen rbac:roleName=keelson-node paths=./nodeagent/agent output:rbac:dir=config/rbac/node

.PHONY: lint
lint: bin/golangci-lint ## Run the linters, which also guard the architecture.
	bin/golangci-lint run

.PHONY: verify
verify: bin/controller-gen bin/golangci-lint ## Check that generated files are current, linters are content and requirements have their tests.
	hack/verify.sh

bin/controller-gen: hack/tools/go.mod hack/tools/go.sum
	cd hack/tools && go build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ sigs.k8s.io/controller-tools/cmd/controller-gen

bin/golangci-lint: hack/tools/lint/go.mod hack/tools/lint/go.sum
	cd hack/tools/lint && go build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: clean
clean: ## Remove what was built. The cluster's data stays; see down.
	rm -rf bin

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make <target>" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-zA-Z0-9_-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
