package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// hello answers every connection to address in a namespace with text.
func (k *kernelTest) hello(path, network, address, text string) int32 {
	k.Helper()
	var listener net.Listener
	err := k.in(path, func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, text)
			_ = conn.Close()
		}
	}()
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

func TestDialPod(t *testing.T) {
	k := newKernelTest(t)
	a, b := k.pod("a"), k.pod("b")
	port := k.hello(a.NetNSPath, "tcp4", "127.0.0.1:0", "a4")
	k.hello(b.NetNSPath, "tcp4", fmt.Sprintf("127.0.0.1:%d", port), "b4")
	only6 := k.hello(a.NetNSPath, "tcp6", "[::1]:0", "a6")

	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		pod  string
		port int32
		want string
	}{
		"one Pod":                        {"a", port, "a4"},
		"the same port of another":       {"b", port, "b4"},
		"a program that knows only IPv6": {"a", only6, "a6"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for range 50 { // often enough to use every thread
				conn, err := k.net.DialPod(t.Context(), ref(test.pod).UID, test.port)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != test.want {
					t.Fatalf("got %q, %v, want %q", got, err, test.want)
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	// A thread that went into a namespace ends, a moment after its call.
	deadline := time.Now().Add(10 * time.Second)
	for abroad := threadsOutside(t, here); len(abroad) > 0; abroad = threadsOutside(t, here) {
		if time.Now().After(deadline) {
			t.Fatalf("threads stay in other namespaces: %v", abroad)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func threadsOutside(t *testing.T, home string) []string {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var abroad []string
	for _, thread := range threads {
		ns, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net")
		if err == nil && ns != home {
			abroad = append(abroad, thread.Name()+" "+ns)
		}
	}
	return abroad
}

func TestDialPodFails(t *testing.T) {
	k := newKernelTest(t)
	k.pod("a")
	gone, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-gone.Done()
	tests := map[string]struct {
		ctx  context.Context
		pod  PodRef
		want error
	}{
		"nobody listens":        {t.Context(), ref("a"), syscall.ECONNREFUSED},
		"no such Pod":           {t.Context(), ref("nobody"), netlinkx.ErrNotFound},
		"the client has left":   {gone, ref("a"), context.DeadlineExceeded},
		"a UID that is a path":  {t.Context(), PodRef{UID: "../x"}, nil},
		"a UID that is missing": {t.Context(), PodRef{}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := k.net.DialPod(test.ctx, test.pod.UID, 9)
			if err == nil {
				_ = conn.Close()
				t.Fatal("connected")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}
