package volumes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// giveToGroup gives everything in dir to the group, as upstream does with fsGroup: its
// members may read, and write unless the volume is for reading only; what is made in a
// folder later belongs to the group too. A nil group changes nothing. Links are given
// away themselves and never followed.
func giveToGroup(dir string, group *int64, readOnly bool) error {
	if group == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("giving the volume to group %d: %w", *group, err)
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("giving the volume to group %d: %w", *group, err)
		}
		if err := os.Lchown(path, -1, int(*group)); err != nil {
			return fmt.Errorf("giving the volume to group %d: %w", *group, err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		if err := os.Chmod(path, groupMode(info.Mode(), readOnly)); err != nil {
			return fmt.Errorf("giving the volume to group %d: %w", *group, err)
		}
		return nil
	})
}

// groupMode adds to mode what the group of a volume may do.
func groupMode(mode fs.FileMode, readOnly bool) fs.FileMode {
	if readOnly {
		mode |= 0o440
	} else {
		mode |= 0o660
	}
	if mode.IsDir() {
		mode |= fs.ModeSetgid | 0o110
	}
	return mode
}
