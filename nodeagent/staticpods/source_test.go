package staticpods

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const patience = 20 * time.Second

// inbox keeps what a source says, newest last.
type inbox struct {
	sets     chan []string
	mu       sync.Mutex
	problems map[string]string
}

func newInbox() *inbox { return &inbox{sets: make(chan []string, 100), problems: map[string]string{}} }

func (i *inbox) set(pods []*keelsonv1.Pod) {
	names := []string{}
	for _, pod := range pods {
		names = append(names, pod.Name+" "+pod.Spec.Containers[0].Image)
	}
	i.sets <- names
}

func (i *inbox) report(place string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	text := "good again"
	if err != nil {
		text = err.Error()
	}
	i.problems[filepath.Base(place)] = text
}

func (i *inbox) problem(place string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.problems[place]
}

func (i *inbox) expect(t *testing.T, want ...string) {
	t.Helper()
	expired := time.After(patience)
	var last []string
	for {
		select {
		case last = <-i.sets:
			if slices.Equal(last, want) {
				return
			}
		case <-expired:
			t.Fatalf("not within %v: %v; the last were %v", patience, want, last)
		}
	}
}

// watchFiles follows path until the test ends. Only announcements can make it read
// again: its clock's interval is out of reach.
func watchFiles(t *testing.T, path string) *inbox {
	t.Helper()
	i := newInbox()
	f := &Files{Path: path, Node: "n", Interval: time.Hour, Clock: clock.RealClock{}, Report: i.report}
	run(t, func(ctx context.Context, started func()) { f.Run(ctx, i.set, started) })
	return i
}

func run(t *testing.T, loop func(ctx context.Context, started func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	started := make(chan struct{})
	group.Go(func() { loop(ctx, func() { close(started) }) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	select {
	case <-started:
	case <-time.After(patience):
		t.Fatal("the source does not start")
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	temporary := filepath.Join(t.TempDir(), "new")
	if err := errors.Join(os.WriteFile(temporary, []byte(data), 0o600), os.Rename(temporary, path)); err != nil {
		t.Fatal(err)
	}
}

func named(name string) string { return strings.ReplaceAll(manifest, "web", name) }

func TestFilesOfAFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.yaml"), named("b"))
	write(t, filepath.Join(dir, ".hidden.yaml"), named("hidden"))
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	i := watchFiles(t, dir)
	i.expect(t, "b-n nginx:1")
	if got := i.problem("sub"); !strings.Contains(got, "not recursing") {
		t.Errorf("of the folder it says %q", got)
	}

	write(t, filepath.Join(dir, "a.json"), `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	i.expect(t, "a-n i", "b-n nginx:1")

	// What cannot be read any more goes on as it was, and the others do.
	write(t, filepath.Join(dir, "b.yaml"), "kind: [")
	write(t, filepath.Join(dir, "c.yaml"), named("c"))
	i.expect(t, "a-n i", "b-n nginx:1", "c-n nginx:1")
	if got := i.problem("b.yaml"); !strings.Contains(got, "couldn't parse as pod") {
		t.Errorf("of b.yaml it says %q", got)
	}
	write(t, filepath.Join(dir, "b.yaml"), strings.Replace(named("b"), ":1", ":2", 1))
	i.expect(t, "a-n i", "b-n nginx:2", "c-n nginx:1")
	if got := i.problem("b.yaml"); got != "good again" {
		t.Errorf("of b.yaml it says %q", got)
	}

	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	i.expect(t, "a-n i", "c-n nginx:1")
}

func TestSingleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yaml")
	write(t, path, manifest)
	i := watchFiles(t, path)
	i.expect(t, "web-n nginx:1")
	write(t, path, strings.Replace(manifest, ":1", ":2", 1))
	i.expect(t, "web-n nginx:2")
}

func TestFolderThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	i, c := newInbox(), clocktesting.NewFakeClock(time.Unix(0, 0))
	f := &Files{Path: dir, Node: "n", Interval: time.Minute, Clock: c, Report: i.report}
	run(t, func(ctx context.Context, started func()) { f.Run(ctx, i.set, started) })
	i.expect(t)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "web.yaml"), manifest)
	c.Step(time.Minute)
	i.expect(t, "web-n nginx:1")
}

func TestURL(t *testing.T) {
	var mu sync.Mutex
	code, body := http.StatusOK, manifest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Token") != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	i := newInbox()
	c := clocktesting.NewFakeClock(time.Unix(0, 0))
	u := &URL{Address: server.URL, Header: http.Header{"Token": {"secret"}}, Node: "n", Interval: time.Minute, Clock: c, Report: i.report}
	run(t, func(ctx context.Context, started func()) { started(); u.Run(ctx, i.set) })
	i.expect(t, "web-n nginx:1")

	answer := func(status int, text string) {
		mu.Lock()
		code, body = status, text
		mu.Unlock()
		c.Step(time.Minute)
	}
	answer(http.StatusInternalServerError, "")
	place := filepath.Base(server.URL)
	waitFor(t, func() bool { return strings.Contains(i.problem(place), "500") })
	answer(http.StatusOK, `{"apiVersion":"v1","kind":"PodList","items":[`+
		`{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}},`+
		`{"metadata":{"name":"b"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}`)
	i.expect(t, "a-n i", "b-n i")
	if got := i.problem(place); got != "good again" {
		waitFor(t, func() bool { return i.problem(place) == "good again" })
	}
	answer(http.StatusOK, "")
	i.expect(t)
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	expired := time.After(patience)
	for !done() {
		select {
		case <-expired:
			t.Fatal("it did not come to pass")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
