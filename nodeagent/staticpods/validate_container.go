package staticpods

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func containsDotDot(p string) bool { return slices.Contains(strings.Split(p, "/"), "..") }

// containers checks the containers of one Pod, whose names are unique across lists.
type containers struct {
	volumes, names sets.Set[string]
	host           bool
	errs           field.ErrorList
}

func validateContainers(spec *corev1.PodSpec, volumes sets.Set[string]) field.ErrorList {
	c := &containers{volumes: volumes, names: sets.New[string](), host: spec.HostNetwork}
	if len(spec.Containers) == 0 {
		c.add(field.Required(specPath.Child("containers"), ""))
	}
	for i := range spec.Containers {
		at := specPath.Child("containers").Index(i)
		c.check(&spec.Containers[i], at)
	}
	for i := range spec.InitContainers {
		init, at := &spec.InitContainers[i], specPath.Child("initContainers").Index(i)
		c.check(init, at)
		if sidecar := init.RestartPolicy != nil && *init.RestartPolicy == corev1.ContainerRestartPolicyAlways; sidecar {
			continue
		}
		for name, set := range map[string]bool{"lifecycle": init.Lifecycle != nil, "livenessProbe": init.LivenessProbe != nil,
			"readinessProbe": init.ReadinessProbe != nil, "startupProbe": init.StartupProbe != nil} {
			if set {
				c.add(field.Forbidden(at.Child(name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
	}
	return c.errs
}

func (c *containers) add(errs ...*field.Error) { c.errs = append(c.errs, errs...) }

func (c *containers) check(container *corev1.Container, at *field.Path) {
	c.add(label(at.Child("name"), container.Name, c.names)...)
	switch {
	case container.Image == "":
		c.add(field.Required(at.Child("image"), ""))
	case strings.TrimSpace(container.Image) != container.Image:
		c.add(field.Invalid(at.Child("image"), container.Image, "must not have leading or trailing whitespace"))
	}
	c.add(oneOf(at.Child("imagePullPolicy"), container.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	c.add(oneOf(at.Child("terminationMessagePolicy"), container.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	c.ports(container.Ports, at.Child("ports"))
	for i := range container.Env {
		if container.Env[i].Name == "" {
			c.add(field.Required(at.Child("env").Index(i).Child("name"), ""))
		}
	}
	c.mounts(container.VolumeMounts, at.Child("volumeMounts"))
	c.resources(&container.Resources, at.Child("resources"))
	for name, probe := range map[string]*corev1.Probe{
		"livenessProbe": container.LivenessProbe, "readinessProbe": container.ReadinessProbe, "startupProbe": container.StartupProbe,
	} {
		c.probe(probe, at.Child(name))
	}
	if container.Lifecycle != nil {
		for name, h := range map[string]*corev1.LifecycleHandler{"postStart": container.Lifecycle.PostStart, "preStop": container.Lifecycle.PreStop} {
			if h != nil {
				c.handler(at.Child("lifecycle", name), h.Exec, h.HTTPGet, h.TCPSocket != nil, h.Sleep != nil)
			}
		}
	}
}

func (c *containers) ports(ports []corev1.ContainerPort, at *field.Path) {
	names := sets.New[string]()
	for i := range ports {
		p, at := &ports[i], at.Index(i)
		if p.Name != "" {
			for _, problem := range validation.IsValidPortName(p.Name) {
				c.add(field.Invalid(at.Child("name"), p.Name, problem))
			}
			if names.Has(p.Name) {
				c.add(field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			c.add(field.Required(at.Child("containerPort"), ""))
		} else {
			c.port(at.Child("containerPort"), int(p.ContainerPort))
		}
		if p.HostPort != 0 {
			c.port(at.Child("hostPort"), int(p.HostPort))
		}
		if c.host && p.HostPort != p.ContainerPort {
			c.add(field.Invalid(at.Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
		}
		c.add(oneOf(at.Child("protocol"), p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
	}
}

func (c *containers) port(at *field.Path, port int) {
	for _, problem := range validation.IsValidPortNum(port) {
		c.add(field.Invalid(at, port, problem))
	}
}

func (c *containers) mounts(mounts []corev1.VolumeMount, at *field.Path) {
	paths := sets.New[string]()
	for i := range mounts {
		m, at := &mounts[i], at.Index(i)
		switch {
		case m.Name == "":
			c.add(field.Required(at.Child("name"), ""))
		case !c.volumes.Has(m.Name):
			c.add(field.NotFound(at.Child("name"), m.Name))
		}
		switch {
		case m.MountPath == "":
			c.add(field.Required(at.Child("mountPath"), ""))
		case paths.Has(m.MountPath):
			c.add(field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
	}
}

func (c *containers) resources(r *corev1.ResourceRequirements, at *field.Path) {
	for _, name := range sortedResources(r.Limits) {
		if limit := r.Limits[name]; limit.Sign() < 0 {
			c.add(field.Invalid(at.Child("limits").Key(string(name)), limit.String(), "must be greater than or equal to 0"))
		}
	}
	for _, name := range sortedResources(r.Requests) {
		request := r.Requests[name]
		limit, limited := r.Limits[name]
		switch {
		case request.Sign() < 0:
			c.add(field.Invalid(at.Child("requests").Key(string(name)), request.String(), "must be greater than or equal to 0"))
		case limited && request.Cmp(limit) > 0:
			c.add(field.Invalid(at.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
}

func (c *containers) probe(p *corev1.Probe, at *field.Path) {
	if p == nil {
		return
	}
	c.handler(at, p.Exec, p.HTTPGet, p.TCPSocket != nil, p.GRPC != nil)
	for name, seconds := range map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds,
		"periodSeconds": p.PeriodSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
		if seconds < 0 {
			c.add(field.Invalid(at.Child(name), seconds, "must be greater than or equal to 0"))
		}
	}
}

// handler checks that there is one way to ask, and that it can be gone.
func (c *containers) handler(at *field.Path, exec *corev1.ExecAction, get *corev1.HTTPGetAction, others ...bool) {
	ways := 0
	for _, set := range append(others, exec != nil, get != nil) {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		c.add(field.Required(at, "must specify a handler type"))
	case ways > 1:
		c.add(field.Forbidden(at, "may not specify more than 1 handler type"))
	case exec != nil && len(exec.Command) == 0:
		c.add(field.Required(at.Child("exec", "command"), ""))
	case get != nil && get.Port.Type == intstr.Int:
		c.port(at.Child("httpGet", "port"), int(get.Port.IntVal))
	}
}
