package env

import (
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/downward"
)

// Environment is what a container's process sees, expanded.
type Environment struct {
	// Env is "NAME=value": the variables of envFrom by name, those of env in the order of
	// the spec, then those of Services that the Pod does not name itself.
	Env           []string
	Command, Args []string
}

// Input is what a container's environment follows from.
type Input struct {
	Pod       *keelsonv1.Pod
	Container *corev1.Container
	// Services are the variables from Services.
	Services []Variable
	// Sources hold what valueFrom and envFrom name.
	Sources Sources
	// Facts and Allocatable are what fieldRef and resourceFieldRef ask for beside the Pod.
	Facts       downward.Facts
	Allocatable corev1.ResourceList
}

// Compute returns the environment; its error says, in upstream's words, what is missing
// of what a variable names.
func Compute(in Input) (Environment, error) {
	services := make(map[string]string, len(in.Services))
	for _, v := range in.Services {
		services[v.Name] = v.Value
	}
	own := newVariables(len(in.Container.Env))
	lookup := func(name string) (string, bool) {
		if value, ok := own.values[name]; ok {
			return value, true
		}
		value, ok := services[name]
		return value, ok
	}
	if err := addAll(own, in); err != nil {
		return Environment{}, err
	}
	for i := range in.Container.Env {
		v := &in.Container.Env[i]
		if v.Value != "" || v.ValueFrom == nil {
			own.set(v.Name, Expand(v.Value, lookup))
			continue
		}
		value, ok, err := resolve(in, v.ValueFrom)
		if err != nil {
			return Environment{}, err
		}
		if ok {
			own.set(v.Name, value)
		}
	}
	out := Environment{Env: own.list()}
	for _, v := range in.Services {
		if _, ok := own.values[v.Name]; !ok {
			out.Env = append(out.Env, v.Name+"="+v.Value)
		}
	}
	out.Command = expandAll(in.Container.Command, lookup)
	out.Args = expandAll(in.Container.Args, lookup)
	return out, nil
}

// variables keep the order in which names first appeared; the last value counts.
type variables struct {
	names  []string
	values map[string]string
}

func newVariables(size int) *variables {
	return &variables{values: make(map[string]string, size)}
}

func (v *variables) set(name, value string) {
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) list() []string {
	var out []string
	for _, name := range v.names {
		out = append(out, name+"="+v.values[name])
	}
	return out
}

func expandAll(texts []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, text := range texts {
		out = append(out, Expand(text, lookup))
	}
	return out
}
