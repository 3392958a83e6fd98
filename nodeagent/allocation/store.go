package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

// fileName is the file in a Pod's folder that says what the Pod was given. It goes with
// the folder.
const fileName = "resources.json"

// Store keeps Allocations in the folders of their Pods.
type Store struct {
	// PodsDir holds a folder for each Pod, named by its UID.
	PodsDir string
}

// Load returns what was saved of a Pod, nil when nothing was.
func (s Store) Load(uid types.UID) (*Allocation, error) {
	path := filepath.Join(s.PodsDir, string(uid), fileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what Pod %s was given: %w", uid, err)
	}
	a := &Allocation{}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("reading what Pod %s was given: %s: %w", uid, path, err)
	}
	return a, nil
}

// Save replaces what is known of a Pod whose folder is there.
func (s Store) Save(uid types.UID, a Allocation) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encoding what Pod %s was given: %w", uid, err)
	}
	return state.WriteFile(filepath.Join(s.PodsDir, string(uid), fileName), data, 0o600)
}
