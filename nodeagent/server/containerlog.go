package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// recheckEnd is how often a followed container is looked at in case an event was lost.
const recheckEnd = 10 * time.Second

// getContainerLog answers with the log of a container of a Pod. Status codes and texts
// are the kubelet's.
func (s *Server) getContainerLog(w http.ResponseWriter, r *http.Request) {
	options, ok := decodeLogOptions(r.URL.Query())
	if !ok {
		writeError(w, http.StatusBadRequest, `{"message": "Unable to decode query."}`)
		return
	}
	if !validLogOptions(options) {
		writeError(w, http.StatusUnprocessableEntity, `{"message": "Invalid request."}`)
		return
	}
	podName, name := r.PathValue("pod"), r.PathValue("container")
	pod := s.podOf(w, r, fmt.Sprintf("pod %q does not exist", podName))
	if pod == nil {
		return
	}
	if !hasContainer(&pod.Spec, name) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("container %q not found in pod %q", name, podName))
		return
	}
	id, err := logContainer(pod, name, options.Previous)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	container, err := s.containerByID(r.Context(), pod.UID, id)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	s.sendLog(w, r, pod.UID, container, options)
}

func (s *Server) containerByID(ctx context.Context, uid types.UID, id string) (runtime.Container, error) {
	state, err := s.Containers.Pod(ctx, uid)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("asking the runtime for the containers of the pod: %w", err)
	}
	_, bare, _ := strings.Cut(id, "://")
	i := slices.IndexFunc(state.Containers, func(c runtime.Container) bool { return c.ID == bare })
	if i < 0 {
		return runtime.Container{}, fmt.Errorf("unable to retrieve container logs for %s", id)
	}
	return state.Containers[i], nil
}

func (s *Server) sendLog(w http.ResponseWriter, r *http.Request, uid types.UID, c runtime.Container, o corev1.PodLogOptions) {
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	options := logs.Options{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Timestamps: o.Timestamps, Follow: o.Follow}
	switch {
	case o.SinceSeconds != nil:
		options.Since = s.Clock.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		options.Since = o.SinceTime.Time
	}
	if o.Follow {
		options.Ended = s.ended(ctx, uid, c.ID)
	}
	answer := newStreamed(w)
	out := logs.Output{Stdout: answer, Stderr: answer, Flush: answer.flush}
	switch *o.Stream {
	case corev1.LogStreamStdout:
		out.Stderr = nil
	case corev1.LogStreamStderr:
		out.Stdout = nil
	}
	err := logs.Read(ctx, c.LogPath, options, out)
	if err == nil {
		err = answer.flush()
	}
	if err == nil || r.Context().Err() != nil {
		return
	}
	klog.FromContext(ctx).Info("Cannot send a container's log", "containerID", c.ID, "err", err)
	if !answer.begun {
		writeError(w, http.StatusInternalServerError, fmt.Sprintf("unable to retrieve container logs for %s: %v", c.Name, err))
		return
	}
	panic(http.ErrAbortHandler) // so that the client sees that something is missing
}

// ended returns a channel that is closed when the container has ended. The runtime shows
// that after the whole log is written.
func (s *Server) ended(ctx context.Context, uid types.UID, id string) <-chan struct{} {
	events := s.Containers.Events(ctx) // before the look, so that no end is missed
	done := make(chan struct{})
	go func() {
		defer close(done)
		recheck := s.Clock.NewTicker(recheckEnd)
		defer recheck.Stop()
		for s.runs(ctx, uid, id) {
			select {
			case <-ctx.Done():
				return
			case <-recheck.C():
			case event, ok := <-events:
				if !ok || event.Type == runtime.ContainerExited && event.ContainerID == id {
					return
				}
			}
		}
	}()
	return done
}

// runs says that the container has not ended, as far as the runtime can tell.
func (s *Server) runs(ctx context.Context, uid types.UID, id string) bool {
	state, err := s.Containers.Pod(ctx, uid)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(state.Containers, func(c runtime.Container) bool {
		return c.ID == id && c.State != runtime.Exited
	})
}

// logContainer chooses the container whose log is meant from the Pod's status. Its
// errors say why there is none, as the kubelet does.
func logContainer(pod *corev1.Pod, name string, previous bool) (string, error) {
	status := containerStatus(&pod.Status, name)
	if status == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", name, pod.Name)
	}
	last := ""
	if status.LastTerminationState.Terminated != nil {
		last = status.LastTerminationState.Terminated.ContainerID
	}
	state := status.State
	switch {
	case previous:
		if last == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
		}
		return last, nil
	case state.Running != nil:
		return status.ContainerID, nil
	case state.Terminated != nil && state.Terminated.ContainerID != "":
		return state.Terminated.ContainerID, nil
	case last != "":
		return last, nil
	case state.Terminated != nil || status.LastTerminationState.Terminated != nil:
		return "", fmt.Errorf("container %q in pod %q is terminated", name, pod.Name)
	case state.Waiting != nil:
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, waitingText(state.Waiting.Reason))
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod.Name)
}

func waitingText(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

func containerStatus(status *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{
		status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses,
	} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// streamed is an answer that reaches the client at each flush.
type streamed struct {
	*bufio.Writer
	response http.ResponseWriter
	begun    bool
}

func newStreamed(w http.ResponseWriter) *streamed {
	s := &streamed{response: w}
	s.Writer = bufio.NewWriterSize(writerFunc(s.send), 16<<10)
	return s
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (s *streamed) begin() {
	if !s.begun {
		s.response.Header().Set("Content-Type", "text/plain")
		s.response.WriteHeader(http.StatusOK)
		s.begun = true
	}
}

func (s *streamed) send(p []byte) (int, error) {
	s.begin()
	return s.response.Write(p)
}

func (s *streamed) flush() error {
	s.begin()
	if err := s.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(s.response).Flush()
}
