package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func (s *Server) getPods(w http.ResponseWriter, r *http.Request) {
	pods, err := s.Pods.List(r.Context())
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
	for _, pod := range pods {
		item := *pod
		item.TypeMeta = metav1.TypeMeta{}
		list.Items = append(list.Items, item)
	}
	writeJSON(w, r, list)
}

func (s *Server) getRunningPods(w http.ResponseWriter, r *http.Request) {
	pods, err := s.RunningPods(r.Context())
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, r, corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: append([]corev1.Pod{}, pods...)})
}

// getConfiguration shows the settings under the name that the kubelet gives its own.
func (s *Server) getConfiguration(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, map[string]any{"kubeletconfig": s.Configuration()})
}

func (s *Server) getSummary(w http.ResponseWriter, r *http.Request) {
	only := r.FormValue("only_cpu_and_memory")
	summary, err := s.Statistics.Summary(r.Context(), only == "true" || only == "1")
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, r, summary)
}

func writeJSON(w http.ResponseWriter, r *http.Request, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		klog.FromContext(r.Context()).V(2).Info("Cannot write an answer", "path", r.URL.Path, "err", err)
	}
}

// podOf returns the Pod that the path names; nil means that it has answered, with missing
// when the node has none.
func (s *Server) podOf(w http.ResponseWriter, r *http.Request, missing string) *corev1.Pod {
	pod, err := s.Pods.Get(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return nil
	}
	if pod == nil {
		writeError(w, http.StatusNotFound, missing)
	}
	return pod
}

// runningContainer returns the container that the path names. Its errors are the
// kubelet's.
func (s *Server) runningContainer(r *http.Request, pod *corev1.Pod) (runtime.Container, error) {
	name := r.PathValue("container")
	missing := fmt.Errorf("container not found (%q)", name)
	if !isUID(r, pod.UID) {
		return runtime.Container{}, missing
	}
	state, err := s.Containers.Pod(r.Context(), pod.UID)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("asking the runtime for the containers of the pod: %w", err)
	}
	i := slices.IndexFunc(state.Containers, func(c runtime.Container) bool {
		return c.Name == name && c.State == runtime.Running
	})
	if i < 0 {
		return runtime.Container{}, missing
	}
	return state.Containers[i], nil
}

// isUID says that the path names no UID, or this one.
func isUID(r *http.Request, uid types.UID) bool {
	wanted := r.PathValue("uid")
	return wanted == "" || types.UID(wanted) == uid
}

// hasContainer says that the Pod's spec has a container of any kind with this name.
func hasContainer(spec *corev1.PodSpec, name string) bool {
	named := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(spec.Containers, named) || slices.ContainsFunc(spec.InitContainers, named) ||
		slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
}
