package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/cluster/internal/files"
)

// nodeConfig are the first settings of all nodes. The disk is the owner's, and may be fuller
// than a node's: neither are images removed for space, nor Pods ended for it.
const nodeConfig = `# Settings of this cluster's nodes. A change counts when keelson-node starts again: with
# several nodes after 'keelson node restart NAME', else after 'keelson down --keep-data'
# and 'keelson up'. 'keelson-node --help' tells of them.
apiVersion: config.keelson.dev/v1alpha1
kind: NodeConfiguration
imageGCHighThreshold: 100
evictionHard:
  memory.available: 100Mi
`

// overlayConfig is the part of the nodes' settings in which all of them, also those that
// join, have to agree.
type overlayConfig struct {
	Overlay     string `json:"overlay"`
	OverlayPort int    `json:"overlayPort"`
}

// readOverlay reads it from the settings that the owner may have changed. What else is in
// them, the agent judges.
func readOverlay(path string) (o overlayConfig, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &o)
	}
	if err != nil {
		return o, fmt.Errorf("read the settings of nodes in %s: %w", path, err)
	}
	return o, nil
}

// writeNodeConfig writes the settings unless the owner has them already.
func writeNodeConfig(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := files.Replace(path, []byte(nodeConfig), 0o644); err != nil {
		return fmt.Errorf("write the node's settings: %w", err)
	}
	return nil
}
