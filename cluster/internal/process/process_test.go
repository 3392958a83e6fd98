package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 77 66 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 10 18446744073709551615"
	tests := map[string]struct {
		line    string
		want    stat
		wantErr bool
	}{
		"a usual line":                      {line: "42 (etcd)" + rest, want: stat{parent: 1, session: 66, startTime: 12345}},
		"a name with blanks and brackets":   {line: "42 (a) S (b)" + rest, want: stat{parent: 1, session: 66, startTime: 12345}},
		"a zombie":                          {line: "42 (x) Z 1 77 66 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9 0", want: stat{zombie: true, parent: 1, session: 66, startTime: 9}},
		"a line that was cut":               {line: "42 (x) S 1", wantErr: true},
		"a line without a name":             {line: "42 x S 1", wantErr: true},
		"a start time that is not a number": {line: "42 (x) S 1 77 66 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 soon 0", wantErr: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(tt.line)
			if (err != nil) != tt.wantErr {
				t.Fatalf("error %v, want one: %v", err, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(stat{})); diff != "" {
				t.Errorf("stat (-want +got):\n%s", diff)
			}
		})
	}
}

func sleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "600")
	cmd.Env = env
	cmd.SysProcAttr = Detached()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-reaped })
	return cmd
}

func TestFindSeesOnlyMarkedChildren(t *testing.T) {
	owner := t.TempDir()
	mine := sleeper(t, Mark(owner, "a")...)
	sleeper(t, Mark(owner+"-other", "b")...)
	sleeper(t)
	id, err := Of(mine.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// sleep may be a link to a multi-call program.
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		executables []string
		want        []Found
	}{
		{executables: []string{"sleep", "coreutils", "busybox"}, want: []Found{{id, "a"}}},
		{executables: []string{exe}, want: nil},
	} {
		got, err := Find(owner, tt.executables)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("found among %v (-want +got):\n%s", tt.executables, diff)
		}
	}
}

func TestEnd(t *testing.T) {
	t.Run("ends the process", func(t *testing.T) {
		cmd := sleeper(t)
		id, err := Of(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := End(t.Context(), id, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if id.Alive() {
			t.Error("still alive")
		}
		if err := End(t.Context(), id, 5*time.Second); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
	t.Run("leaves another process with the same pid alone", func(t *testing.T) {
		cmd := sleeper(t)
		id, err := Of(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := End(t.Context(), Identity{PID: id.PID, StartTime: id.StartTime - 1}, time.Second); err != nil {
			t.Fatal(err)
		}
		if !id.Alive() {
			t.Error("it was ended")
		}
	})
}

func TestOfAnEndedProcess(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
