package lifecycle

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/downward"
	"github.com/keelson-dev/keelson/nodeagent/env"
)

// environment gathers what the container's variables come from, and computes them.
func (m *Manager) environment(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container, attachment Attachment) (env.Environment, error) {
	services, err := m.Services(ctx, pod)
	if err != nil {
		return env.Environment{}, fmt.Errorf("services have not yet been read at least once, cannot construct envvars: %w", err)
	}
	sources, err := m.sources(ctx, pod, env.Needs(c))
	if err != nil {
		return env.Environment{}, err
	}
	return env.Compute(env.Input{
		Pod: m.withOrigin(pod), Container: c, Services: env.Services(services, pod.Namespace, env.WantsLinks(pod)),
		Sources: sources, Facts: m.facts(pod, attachment), Allocatable: m.Allocatable(),
	})
}

// sources reads ConfigMaps and Secrets. Those that do not exist are left out: whether
// that matters is for the variables to say.
func (m *Manager) sources(ctx context.Context, pod *keelsonv1.Pod, names env.Names) (env.Sources, error) {
	namespace := pod.Namespace
	s := env.Sources{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}}
	for _, name := range names.ConfigMaps {
		object, err := m.Objects.ConfigMap(ctx, namespace, name)
		if err != nil && !apierrors.IsNotFound(err) {
			return env.Sources{}, err
		}
		s.ConfigMaps[name] = object
	}
	for _, name := range names.Secrets {
		object, err := m.Objects.Secret(ctx, namespace, name)
		if err != nil && !apierrors.IsNotFound(err) {
			return env.Sources{}, err
		}
		s.Secrets[name] = object
	}
	var err error
	s.Files, err = m.files(ctx, pod, names.Files)
	return s, err
}

// files reads what earlier containers have written. Files of volumes that are not there
// are left out. Details of what is wrong with a file would tell about the machine.
func (m *Manager) files(ctx context.Context, pod *keelsonv1.Pod, names []env.FileName) (map[env.FileName]env.File, error) {
	files := map[env.FileName]env.File{}
	for _, name := range names {
		where, ok := m.Volumes.FilePath(pod, name.Volume, name.Path)
		if !ok {
			continue
		}
		text, err := m.Volumes.ReadFile(pod, name.Volume, name.Path)
		if err != nil {
			klog.FromContext(ctx).V(2).Info("Cannot read a file for variables", "volume", name.Volume, "path", name.Path, "err", err)
			return nil, errors.New("couldn't parse env file")
		}
		files[name] = env.File{Text: text, Where: where}
	}
	return files, nil
}

// facts are the addresses that a Pod may ask for.
func (m *Manager) facts(pod *keelsonv1.Pod, attachment Attachment) downward.Facts {
	f := downward.Facts{HostIPs: m.HostIPs, PodIPs: m.HostIPs}
	if !pod.Spec.HostNetwork {
		f.PodIPs = attachment.IPs()
	}
	return f
}
