package server

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const logTime = "2026-01-02T03:04:05.000000006Z"

func TestContainerLog(t *testing.T) {
	n := newNode(t)
	n.write("one")
	n.write("two")
	n.start()
	admin := n.admin()
	tests := map[string]struct {
		path       string
		wantStatus int
		want       string
	}{
		"the whole log":                {"/default/web/main", 200, "one\ntwo\n"},
		"the last line":                {"/default/web/main?tailLines=1", 200, "two\n"},
		"the old name of tailLines":    {"/default/web/main?tail=1", 200, "two\n"},
		"all by the old name":          {"/default/web/main?tail=all", 200, "one\ntwo\n"},
		"with times":                   {"/default/web/main?timestamps=true&tailLines=1", 200, logTime + " two\n"},
		"cut":                          {"/default/web/main?limitBytes=5", 200, "one\nt"},
		"since a time":                 {"/default/web/main?sinceTime=2026-01-02T03:04:06Z", 200, ""},
		"one stream":                   {"/default/web/main?stream=Stderr", 200, ""},
		"an ended container":           {"/default/web/ended", 200, ""},
		"following an ended container": {"/default/web/ended?follow=true", 200, ""},
		"no such pod":                  {"/default/db/main", 404, `pod "db" does not exist`},
		"no such namespace":            {"/other/web/main", 404, `pod "web" does not exist`},
		"no such container":            {"/default/web/side", 404, `container "side" not found in pod "web"`},
		"a container that waits":       {"/default/web/never", 400, `container "never" in pod "web" is waiting to start: ContainerCreating`},
		"no previous one":              {"/default/web/main?previous=true", 400, `previous terminated container "main" in pod "web" not found`},
		"a number that is none":        {"/default/web/main?tailLines=x", 400, `{"message": "Unable to decode query."}`},
		"a time that is none":          {"/default/web/main?sinceTime=today", 400, `{"message": "Unable to decode query."}`},
		"negative lines":               {"/default/web/main?tailLines=-1", 422, `{"message": "Invalid request."}`},
		"no bytes":                     {"/default/web/main?limitBytes=0", 422, `{"message": "Invalid request."}`},
		"two beginnings":               {"/default/web/main?sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", 422, `{"message": "Invalid request."}`},
		"an unknown stream":            {"/default/web/main?stream=Stdin", 422, `{"message": "Invalid request."}`},
		"last lines of one stream":     {"/default/web/main?stream=Stdout&tailLines=1", 422, `{"message": "Invalid request."}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, body := n.do(admin, http.MethodGet, "/containerLogs"+test.path, "")
			if status != test.wantStatus || body != test.want {
				t.Errorf("answer is %d %q, want %d %q", status, body, test.wantStatus, test.want)
			}
		})
	}
}

func TestALogThatIsGone(t *testing.T) {
	n := newNode(t).start()
	if err := os.Remove(n.logPath); err != nil {
		t.Fatal(err)
	}
	status, body := n.do(n.admin(), http.MethodGet, "/containerLogs/default/web/main", "")
	if status != 500 || !strings.HasPrefix(body, "unable to retrieve container logs for main: ") {
		t.Errorf("answer is %d %q", status, body)
	}
}

func TestFollowedLogEndsWithTheContainer(t *testing.T) {
	n := newNode(t).start()
	lines, _ := n.follow(t.Context())
	n.write("first")
	expectLine(t, lines, "first")
	n.write("second")
	expectLine(t, lines, "second")
	n.write("last words")
	if err := n.runtime.Exit(n.pod.UID, "main", 0, "Completed"); err != nil {
		t.Fatal(err)
	}
	expectLine(t, lines, "last words")
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the end came %q, %v", lines.Text(), lines.Err())
	}
}

func TestFollowedLogEndsThoughTheEventWasLost(t *testing.T) {
	n := newNode(t).start()
	lines, _ := n.follow(t.Context())
	n.write("first")
	expectLine(t, lines, "first")
	if err := n.runtime.StopSandbox(t.Context(), "sandbox-1"); err != nil {
		t.Fatal(err)
	}
	n.runtime.Resync() // nothing has ended: it goes on
	n.write("second")
	expectLine(t, lines, "second")
	if err := n.runtime.Exit(n.pod.UID, "main", 0, "Completed"); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("after the end came %q", lines.Text())
	}
}

func TestFollowedLogEndsWithItsReaderAndWithTheServer(t *testing.T) {
	n := newNode(t).start()
	_, leave := n.follow(t.Context())
	leave()
	lines, _ := n.follow(t.Context())
	n.stop() // returns when every handler has, or is cut off
	if lines.Scan() {
		t.Errorf("after the end came %q", lines.Text())
	}
}

func (n *node) follow(ctx context.Context) (*bufio.Scanner, func()) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	n.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/containerLogs/default/web/main?follow=true", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := n.admin().Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		n.t.Fatalf("following answers %s", response.Status)
	}
	return bufio.NewScanner(response.Body), cancel
}

func expectLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("line is %q (%v), want %q", lines.Text(), lines.Err(), want)
	}
}

func TestWhichContainersLogIsMeant(t *testing.T) {
	ended := func(id string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id}}
	}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	tests := map[string]struct {
		status   *corev1.ContainerStatus
		previous bool
		want     string
		wantErr  string
	}{
		"it has no status":           {wantErr: `container "c" in pod "p" is not available`},
		"it runs":                    {status: &corev1.ContainerStatus{ContainerID: "x://1", State: running}, want: "x://1"},
		"it has ended":               {status: &corev1.ContainerStatus{State: ended("x://1")}, want: "x://1"},
		"the one before":             {status: &corev1.ContainerStatus{ContainerID: "x://2", State: running, LastTerminationState: ended("x://1")}, previous: true, want: "x://1"},
		"there was none before":      {status: &corev1.ContainerStatus{ContainerID: "x://2", State: running}, previous: true, wantErr: `previous terminated container "c" in pod "p" not found`},
		"it waits for a restart":     {status: &corev1.ContainerStatus{State: waiting("CrashLoopBackOff"), LastTerminationState: ended("x://1")}, want: "x://1"},
		"the next did not start":     {status: &corev1.ContainerStatus{State: ended(""), LastTerminationState: ended("x://1")}, want: "x://1"},
		"it ended without a trace":   {status: &corev1.ContainerStatus{State: ended("")}, wantErr: `container "c" in pod "p" is terminated`},
		"its image cannot be pulled": {status: &corev1.ContainerStatus{State: waiting("ErrImagePull")}, wantErr: `container "c" in pod "p" is waiting to start: image can't be pulled`},
		"its image is waited for":    {status: &corev1.ContainerStatus{State: waiting("ImagePullBackOff")}, wantErr: `container "c" in pod "p" is waiting to start: trying and failing to pull image`},
		"it waits":                   {status: &corev1.ContainerStatus{State: waiting("ContainerCreating")}, wantErr: `container "c" in pod "p" is waiting to start: ContainerCreating`},
		"nothing is known of it":     {status: &corev1.ContainerStatus{}, wantErr: `container "c" in pod "p" is waiting to start - no logs yet`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{}
			pod.Name = "p"
			if test.status != nil {
				test.status.Name = "c"
				pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{*test.status}
			}
			got, err := logContainer(pod, "c", test.previous)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != test.want || text != test.wantErr {
				t.Errorf("chose %q, %q; want %q, %q", got, text, test.want, test.wantErr)
			}
		})
	}
}

func TestBooleansOfAQuery(t *testing.T) {
	for text, want := range map[string]bool{"": false, "f": true, "f=": true, "f=true": true, "f=1": true, "f=0": false, "f=False": false, "f=no": true} {
		query, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := queryBool(query, "f"); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestHostLogs(t *testing.T) {
	n := newNode(t)
	dir := n.options.LogDir
	outside := filepath.Join(t.TempDir(), "secret")
	for path, text := range map[string]string{filepath.Join(dir, "syslog"): "hello", outside: "secret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	n.start()
	admin := n.admin()
	if status, body := n.do(admin, http.MethodGet, "/logs/syslog", ""); status != 200 || body != "hello" {
		t.Errorf("a file is %d %q", status, body)
	}
	if status, body := n.do(admin, http.MethodGet, "/logs/", ""); status != 200 || !strings.Contains(body, `<a href="syslog">syslog</a>`) {
		t.Errorf("the folder is %d %q", status, body)
	}
	for _, path := range []string{"/logs/link", "/logs/%2e%2e/secret", "/logs/..%2fsecret", "/logs/nothing"} {
		if status, body := n.do(admin, http.MethodGet, path, ""); status < 400 || strings.Contains(body, "secret\n") || body == "secret" {
			t.Errorf("%s is %d %q", path, status, body)
		}
	}
}

func TestPlainPaths(t *testing.T) {
	n := newNode(t)
	n.options.Healthy = func() error { return nil }
	n.start()
	admin := n.admin()
	for path, want := range map[string]string{
		"/healthz":      "ok",
		"/healthz/ping": "ok",
		"/pods":         `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"web","namespace":"default","uid":"uid-1"`,
		"/stats/summary?only_cpu_and_memory=true": `{"node":{"nodeName":"n1","startTime":null},"pods":[]}`,
		"/stats/summary":    `{"node":{"nodeName":"n1","startTime":null,"network":{`,
		"/metrics/resource": "# HELP resource_up \n",
		"/metrics/cadvisor": "# HELP container_up \n",
	} {
		if status, body := n.do(admin, http.MethodGet, path, ""); status != 200 || !strings.HasPrefix(body, want) {
			t.Errorf("%s is %d %.200s", path, status, body)
		}
	}
}

func TestTroubleIsTold(t *testing.T) {
	n := newNode(t)
	n.options.Healthy = func() error { return errors.New("the loop stands still") }
	n.pods.err = errors.New("not read yet")
	n.options.PortForward = nil
	n.start()
	admin := n.admin()
	for path, want := range map[string]string{
		"/healthz":                       "the loop stands still\n",
		"/pods":                          "not read yet",
		"/containerLogs/default/db/main": "not read yet",
		"/exec/default/db/main?output=1&command=x": "not read yet",
	} {
		status, body := n.do(admin, http.MethodGet, path, "")
		if diff := cmp.Diff(want, body); diff != "" || status != 500 {
			t.Errorf("%s is %d (-want +got):\n%s", path, status, diff)
		}
	}
	if status, _ := n.do(admin, http.MethodPost, "/portForward/default/web", ""); status != http.StatusNotImplemented {
		t.Errorf("port-forward answers %d", status)
	}
}
