package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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
