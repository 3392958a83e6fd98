package linger_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/internal/linger"
)

// pair is both ends of a TCP connection.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if far, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

func TestOutputArrivesThoughInputIsUnread(t *testing.T) {
	near, far := pair(t)
	if _, err := far.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	output := bytes.Repeat([]byte("x"), 64<<10)
	if _, err := near.Write(output); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- linger.Close(near, time.Minute) }()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, output) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(output), err)
	}
	far.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestPatienceEnds(t *testing.T) {
	near, far := pair(t)
	const patience = 50 * time.Millisecond
	begin := time.Now()
	if err := linger.Close(near, patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < patience {
		t.Errorf("an other end that says nothing was waited for only %v", took)
	}
	if _, err := io.ReadAll(far); err != nil {
		t.Error(err)
	}
}

func TestAnOtherEndThatIsGoneCostsNoTime(t *testing.T) {
	near, far := pair(t)
	far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = linger.Close(near, time.Hour)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for an other end that is gone")
	}
}

func TestWhatCannotBeHalfClosedIsClosed(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	if err := linger.Close(near, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}
