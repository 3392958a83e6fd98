package imagebuild

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// busyboxPath is where Debian's package busybox-static puts it.
const busyboxPath = "/bin/busybox"

// Busybox is an image with a shell and the usual tools, from the machine's static
// busybox (Debian package busybox-static). Its command is sh.
func Busybox() (Spec, error) {
	spec := Spec{Files: map[string]File{}, Symlinks: map[string]string{}, Dirs: []string{"/tmp", "/root"}, Config: v1.Config{
		Cmd: []string{"sh"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}}
	return spec, AddBusybox(spec)
}

// AddBusybox puts busybox and a link for each of its tools into an image.
func AddBusybox(spec Spec) error {
	out, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return fmt.Errorf("list the tools of %s (apt-get install busybox-static): %w", busyboxPath, err)
	}
	spec.Files["/bin/busybox"] = File{HostPath: busyboxPath}
	for _, tool := range strings.Fields(string(out)) {
		if tool != "busybox" { // it names itself: a link would replace the program
			spec.Symlinks["/bin/"+tool] = "busybox"
		}
	}
	return nil
}

// AddProgram puts a program of this machine into an image together with the shared
// libraries it needs, at the paths they have here.
func AddProgram(spec Spec, program string) error {
	spec.Files[program] = File{HostPath: program}
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") {
			return nil
		}
		return fmt.Errorf("find the libraries of %s: %w: %s", program, err, out)
	}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if filepath.IsAbs(word) {
				spec.Files[word] = File{HostPath: word}
			}
		}
	}
	return nil
}
