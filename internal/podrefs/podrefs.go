// Package podrefs lists what of the API a Pod's node reads for it: ConfigMaps, Secrets,
// and the account whose tokens it mounts.
//
// Two programs use it and must agree: the controller that grants an agent the right to
// read these objects, and the agent that reads them. It is pure.
package podrefs

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// References are sorted names in the Pod's own namespace, each once.
type References struct {
	ConfigMaps, Secrets []string
	// TokenAccount is the account of which the Pod mounts a token, empty when it mounts
	// none.
	TokenAccount string
	// CertificateAccount is the account that certificates of the Pod are about, empty when
	// it mounts none.
	CertificateAccount string
}

// Of returns what spec names.
func Of(spec *corev1.PodSpec) References {
	c := collector{configMaps: map[string]bool{}, secrets: map[string]bool{}}
	for i := range spec.Volumes {
		c.volume(&spec.Volumes[i])
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c.environment(list[i].Env, list[i].EnvFrom)
		}
	}
	for i := range spec.EphemeralContainers {
		e := &spec.EphemeralContainers[i]
		c.environment(e.Env, e.EnvFrom)
	}
	for _, ref := range spec.ImagePullSecrets {
		c.secret(ref.Name)
	}
	refs := References{ConfigMaps: names(c.configMaps), Secrets: names(c.secrets)}
	if c.tokens {
		refs.TokenAccount = spec.ServiceAccountName
	}
	if c.certificates {
		refs.CertificateAccount = spec.ServiceAccountName
	}
	return refs
}

type collector struct {
	configMaps, secrets map[string]bool
	tokens              bool
	certificates        bool
}

func (c *collector) volume(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		c.configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		c.secret(v.Secret.SecretName)
	case v.Projected != nil:
		for i := range v.Projected.Sources {
			c.projection(&v.Projected.Sources[i])
		}
	}
}

func (c *collector) projection(p *corev1.VolumeProjection) {
	if p.ConfigMap != nil {
		c.configMap(p.ConfigMap.Name)
	}
	if p.Secret != nil {
		c.secret(p.Secret.Name)
	}
	c.tokens = c.tokens || p.ServiceAccountToken != nil
	c.certificates = c.certificates || p.PodCertificate != nil
}

func (c *collector) environment(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for i := range env {
		source := env[i].ValueFrom
		if source == nil {
			continue
		}
		if source.ConfigMapKeyRef != nil {
			c.configMap(source.ConfigMapKeyRef.Name)
		}
		if source.SecretKeyRef != nil {
			c.secret(source.SecretKeyRef.Name)
		}
	}
	for i := range from {
		if from[i].ConfigMapRef != nil {
			c.configMap(from[i].ConfigMapRef.Name)
		}
		if from[i].SecretRef != nil {
			c.secret(from[i].SecretRef.Name)
		}
	}
}

func (c *collector) configMap(name string) {
	if name != "" {
		c.configMaps[name] = true
	}
}

func (c *collector) secret(name string) {
	if name != "" {
		c.secrets[name] = true
	}
}

func names(set map[string]bool) []string {
	return slices.Sorted(maps.Keys(set))
}
