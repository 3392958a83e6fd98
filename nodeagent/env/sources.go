package env

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/keelson-dev/keelson/nodeagent/downward"
)

// Sources hold the ConfigMaps and Secrets that a container's variables name, by name.
// What is not there does not exist.
type Sources struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	// Files are those in volumes of the Pod.
	Files map[FileName]File
}

// Names are the ConfigMaps and Secrets that a container's variables name, each once, in
// the order of the spec.
type Names struct {
	ConfigMaps, Secrets []string
	Files               []FileName
}

// Needs returns what Sources must hold for a container.
func Needs(c *corev1.Container) Names {
	var n Names
	for i := range c.EnvFrom {
		if r := c.EnvFrom[i].ConfigMapRef; r != nil {
			n.ConfigMaps = add(n.ConfigMaps, r.Name)
		}
		if r := c.EnvFrom[i].SecretRef; r != nil {
			n.Secrets = add(n.Secrets, r.Name)
		}
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if r := from.ConfigMapKeyRef; r != nil {
			n.ConfigMaps = add(n.ConfigMaps, r.Name)
		}
		if r := from.SecretKeyRef; r != nil {
			n.Secrets = add(n.Secrets, r.Name)
		}
		if r := from.FileKeyRef; r != nil {
			n.Files = add(n.Files, FileName{r.VolumeName, r.Path})
		}
	}
	return n
}

func add[N comparable](names []N, name N) []N {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// addAll adds the variables of envFrom; a later source replaces an earlier one's.
func addAll(own *variables, in Input) error {
	for i := range in.Container.EnvFrom {
		from := &in.Container.EnvFrom[i]
		switch {
		case from.ConfigMapRef != nil:
			object, err := in.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
			if err != nil {
				return err
			}
			for _, key := range keys(object.Data) {
				own.set(from.Prefix+key, object.Data[key])
			}
		case from.SecretRef != nil:
			object, err := in.secret(from.SecretRef.Name, from.SecretRef.Optional)
			if err != nil {
				return err
			}
			for _, key := range keys(object.Data) {
				own.set(from.Prefix+key, string(object.Data[key]))
			}
		}
	}
	return nil
}

func keys[V any](data map[string]V) []string { return slices.Sorted(maps.Keys(data)) }

// resolve returns the value of a valueFrom, false when there is none and need not be.
func resolve(in Input, from *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case from.FieldRef != nil:
		value, err := downward.Field(in.Pod, from.FieldRef.FieldPath, in.Facts)
		return value, true, err
	case from.ResourceFieldRef != nil:
		container := in.Container
		if name := from.ResourceFieldRef.ContainerName; name != "" {
			var err error
			if container, err = downward.Container(in.Pod, name); err != nil {
				return "", false, err
			}
		}
		value, err := downward.Resource(in.Pod, container, from.ResourceFieldRef, in.Allocatable)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		object, err := in.configMap(r.Name, r.Optional)
		if err != nil {
			return "", false, err
		}
		value, ok := object.Data[r.Key]
		return value, ok, missing(ok, r.Optional, "couldn't find key %v in ConfigMap %v/%v", r.Key, in.Pod.Namespace, r.Name)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		object, err := in.secret(r.Name, r.Optional)
		if err != nil {
			return "", false, err
		}
		value, ok := object.Data[r.Key]
		return string(value), ok, missing(ok, r.Optional, "couldn't find key %v in Secret %v/%v", r.Key, in.Pod.Namespace, r.Name)
	case from.FileKeyRef != nil:
		return in.fileValue(from.FileKeyRef)
	}
	return "", true, nil
}

func missing(found bool, optional *bool, format string, args ...any) error {
	if found || isTrue(optional) {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func isTrue(b *bool) bool { return b != nil && *b }

// configMap is empty when it is optional and does not exist.
func (in Input) configMap(name string, optional *bool) (*corev1.ConfigMap, error) {
	if object := in.Sources.ConfigMaps[name]; object != nil {
		return object, nil
	}
	if isTrue(optional) {
		return &corev1.ConfigMap{}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmap"), name)
}

func (in Input) secret(name string, optional *bool) (*corev1.Secret, error) {
	if object := in.Sources.Secrets[name]; object != nil {
		return object, nil
	}
	if isTrue(optional) {
		return &corev1.Secret{}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secret"), name)
}
