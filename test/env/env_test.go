package env

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAssetsDirSaysWhatIsMissingAndHowToBuildIt(t *testing.T) {
	root := t.TempDir()
	_, err := assetsDir(root, "")
	if err == nil || !strings.Contains(err.Error(), "make k8s") || !strings.Contains(err.Error(), "etcd is missing") {
		t.Errorf("error = %v, want one that names etcd and `make k8s`", err)
	}

	bin := filepath.Join(root, "elsewhere")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if err := os.WriteFile(filepath.Join(bin, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := assetsDir(root, bin)
	if err != nil || got != bin {
		t.Errorf("assetsDir = %q, %v; want the directory that the variable names", got, err)
	}
}

func TestModuleRootHasTheCRDs(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "config", "crd", "bases")); err != nil {
		t.Error(err)
	}
}
