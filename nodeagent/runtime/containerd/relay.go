package containerd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

const (
	// slowClient is how long a container waits for an attached client that does not
	// read; then the client is left behind.
	slowClient = 10 * time.Second
	// relayTimeout bounds the wait for the last output of a container that has ended.
	relayTimeout = 15 * time.Second
	relayBuffer  = 16 << 10
)

// relay moves the streams of one interactive container between its shim, its log file
// and attached clients. The shim keeps its ends of the pipes open, so that another
// process can go on where this one was killed.
type relay struct {
	pipes pipes
	ends  openPipes
	log   *logFile
	clock clock.Clock
	once  sync.Once
	// started is guarded by the object's busy lock.
	started bool
	// done is closed when all output has been read.
	done chan struct{}

	mu      sync.Mutex
	clients map[*relayClient]bool
	// inputs are the ends of the input that attached clients write to.
	inputs      map[*os.File]bool
	inputClosed bool
}

// chunk is a piece of output; nobody changes it.
type chunk struct {
	stderr bool
	data   []byte
}

// relayClient is one attached session.
type relayClient struct {
	chunks chan chunk
	// gone is closed when the session ends, slow when it was left behind.
	gone, slow chan struct{}
}

// join adds a client that gets all output from now on.
func (y *relay) join() *relayClient {
	c := &relayClient{chunks: make(chan chunk, 16), gone: make(chan struct{}), slow: make(chan struct{})}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.clients[c] = true
	return c
}

func (y *relay) leave(c *relayClient) {
	y.mu.Lock()
	defer y.mu.Unlock()
	delete(y.clients, c)
	close(c.gone)
}

func (y *relay) attached() []*relayClient {
	y.mu.Lock()
	defer y.mu.Unlock()
	all := make([]*relayClient, 0, len(y.clients))
	for c := range y.clients {
		all = append(all, c)
	}
	return all
}

// pump moves one output until its end.
func (y *relay) pump(from *os.File, name string) {
	stream := &logStream{log: y.log, name: name}
	buffer := make([]byte, relayBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			stream.write(buffer[:n])
			y.send(chunk{stderr: name == "stderr", data: append([]byte(nil), buffer[:n]...)})
		}
		if errors.Is(err, io.EOF) {
			stream.end()
		}
		if err != nil {
			return // the end, or close was called: then the next process goes on, in this line
		}
	}
}

func (y *relay) send(piece chunk) {
	for _, c := range y.attached() {
		select {
		case c.chunks <- piece:
			continue
		default:
		}
		select {
		case c.chunks <- piece:
		case <-c.gone:
		case <-y.clock.After(slowClient):
			y.mu.Lock()
			delete(y.clients, c)
			y.mu.Unlock()
			close(c.slow)
		}
	}
}

var errInputClosed = errors.New("the input of the container is closed")

// openInput opens the container's input for one client. It is an error when the input
// was closed, by this process or an earlier one.
func (y *relay) openInput() (*os.File, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.inputClosed {
		return nil, errInputClosed
	}
	input, err := os.OpenFile(y.pipes.stdinPath(), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) { // the shim does not read any more
		y.inputClosed = true
		return nil, errInputClosed
	}
	if err != nil {
		return nil, fmt.Errorf("open the input of the container: %w", err)
	}
	y.inputs[input] = true
	return input, nil
}

// leaveInput closes one client's end; a write that waits for the container fails.
func (y *relay) leaveInput(input *os.File) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.inputs[input] {
		delete(y.inputs, input)
		_ = input.Close() // nothing is buffered here
	}
}

// closeInput closes the input for everybody and for ever.
func (y *relay) closeInput() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.inputClosed = true
	for input := range y.inputs {
		_ = input.Close() // nothing is buffered here
	}
	clear(y.inputs)
}

// close ends the relay; the container goes on, and its output waits in the pipes.
func (y *relay) close() {
	y.once.Do(func() {
		y.ends.close()
		y.closeInput()
	})
}

func (r *Runtime) streamsDir() string { return filepath.Join(r.options.StateDir, "streams") }

func (r *Runtime) streamsOf(o *object) pipes {
	return pipes{dir: filepath.Join(r.streamsDir(), o.id), stdin: o.record.Stdin, terminal: o.record.TTY}
}

// openRelay makes the pipes of a container, or finds those that are there, and opens
// this side. The object is busy.
func (r *Runtime) openRelay(o *object) (*relay, error) {
	if o.relay != nil {
		o.relay.close()
		o.relay = nil
	}
	y := &relay{
		pipes: r.streamsOf(o), log: &logFile{path: o.record.LogPath, clock: r.options.Clock},
		clock: r.options.Clock, done: make(chan struct{}), clients: map[*relayClient]bool{}, inputs: map[*os.File]bool{},
	}
	if err := y.pipes.make(); err != nil {
		return nil, err
	}
	outputs := y.pipes
	outputs.stdin = false // opened when somebody attaches
	var err error
	y.ends, err = outputs.open()
	return y, err
}

// startRelay moves output until it ends or this Runtime is closed. The object is busy.
func (r *Runtime) startRelay(y *relay) {
	y.started = true
	var group sync.WaitGroup
	group.Go(func() { y.pump(y.ends.stdout, "stdout") })
	if y.ends.stderr != nil {
		group.Go(func() { y.pump(y.ends.stderr, "stderr") })
	}
	go func() {
		group.Wait()
		y.log.close()
		close(y.done)
	}()
	r.done.Go(func() {
		select {
		case <-r.closed:
			y.close()
			<-y.done
		case <-y.done:
		}
	})
}

// resumeRelay goes on with the streams of a container whose task is there. The object
// is busy.
func (r *Runtime) resumeRelay(o *object) {
	if !o.record.interactive() || o.relay != nil && o.relay.started {
		return
	}
	y, err := r.openRelay(o)
	if err != nil {
		r.options.Log.Error(err, "Cannot go on with the streams of a container, its output waits", "container", o.id)
		return
	}
	o.relay = y
	r.startRelay(y)
}

// endRelay waits for the last output of a container whose task is deleted, so that the
// log is whole before the exit is announced. The object is busy.
func (r *Runtime) endRelay(o *object) {
	y := o.relay
	if y == nil {
		return
	}
	if !y.started {
		close(y.done)
	}
	select {
	case <-y.done:
	case <-r.closed:
	case <-r.options.Clock.After(relayTimeout):
		r.options.Log.Info("The output of an ended container does not end, it is left", "container", o.id)
	}
	y.close()
	o.relay = nil
	if err := y.pipes.remove(); err != nil {
		r.options.Log.Error(err, "Cannot remove the streams of a container, they go with it", "container", o.id)
	}
}
