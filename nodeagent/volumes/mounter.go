package volumes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mounter changes the machine's table of mounts.
type Mounter interface {
	// MountMemory mounts a file system in memory; size is in bytes, empty for half of
	// the machine's.
	MountMemory(dir, size string) error
	// MountHugePages mounts a file system of large pages, which the machine may have none
	// of at that moment.
	MountHugePages(dir string, pages HugePages) error
	IsMountPoint(dir string) (bool, error)
	// Bind makes the file or folder that is open show at target.
	Bind(open *os.File, target string) error
	// Unmount removes the topmost mount at target; one that is not there is no error.
	Unmount(target string) error
	// UnmountBelow removes every mount at and below dir.
	UnmountBelow(dir string) error
}

// Kernel is this machine's Mounter.
type Kernel struct{}

var _ Mounter = Kernel{}

// MountMemory implements Mounter. The files stay out of swap where the kernel can.
func (Kernel) MountMemory(dir, size string) error {
	var options []string
	if size != "" {
		options = append(options, "size="+size)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, strings.Join(append(options, "noswap"), ","))
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, strings.Join(options, ","))
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return nil
}

// MountHugePages implements Mounter. What is in it belongs to everybody, as in a folder on
// disk: hugetlbfs has a mode of its own.
func (Kernel) MountHugePages(dir string, pages HugePages) error {
	options := fmt.Sprintf("pagesize=%d,mode=0777", pages.PageSize)
	if pages.Size > 0 {
		options += fmt.Sprintf(",size=%d", pages.Size)
	}
	if err := unix.Mount("nodev", dir, "hugetlbfs", 0, options); err != nil {
		return fmt.Errorf("mount hugetlbfs at %s (%s): %w", dir, options, err)
	}
	return nil
}

// IsMountPoint implements Mounter.
func (Kernel) IsMountPoint(dir string) (bool, error) {
	mounts, err := mountsIn(dir)
	if err != nil {
		return false, err
	}
	return slices.Contains(mounts, dir), nil
}

// Bind implements Mounter.
func (Kernel) Bind(open *os.File, target string) error {
	source := fmt.Sprintf("/proc/self/fd/%d", open.Fd())
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s at %s: %w", open.Name(), target, err)
	}
	return nil
}

// Unmount implements Mounter.
func (Kernel) Unmount(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", target, err)
}

// UnmountBelow implements Mounter.
func (k Kernel) UnmountBelow(dir string) error {
	// What lies on top comes last in the table; what it hides may show only then.
	const rounds = 3
	for range rounds {
		mounts, err := mountsIn(dir)
		if err != nil || len(mounts) == 0 {
			return err
		}
		for _, target := range slices.Backward(mounts) {
			if err := k.Unmount(target); err != nil {
				return err
			}
		}
	}
	left, err := mountsIn(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	return err
}

// mountsIn lists the mount points at and below dir in the order of the table.
func mountsIn(dir string) ([]string, error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the machine's table of mounts: %w", err)
	}
	defer table.Close()
	return parseMounts(table, dir)
}

// parseMounts reads a table as proc_pid_mountinfo(5) describes it.
func parseMounts(table io.Reader, dir string) ([]string, error) {
	const pointField = 4
	var points []string
	lines := bufio.NewScanner(table)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= pointField {
			return nil, fmt.Errorf("reading the machine's table of mounts: cannot understand %q", lines.Text())
		}
		point := unescape(fields[pointField])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the machine's table of mounts: %w", err)
	}
	return points, nil
}

// unescape turns the kernel's \040 and its like back into bytes.
func unescape(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, `\`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if len(after) >= 3 {
			if code, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				out.WriteByte(byte(code))
				text = after[3:]
				continue
			}
		}
		out.WriteByte('\\')
		text = after
	}
}
