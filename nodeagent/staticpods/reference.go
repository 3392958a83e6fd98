package staticpods

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/internal/podrefs"
)

// Reference names the kind of an object of the API that spec needs, empty when it needs
// none. A static Pod has to do without, and its mirror must not become a way for a node
// to read what its Pods do not name. The words are upstream's (pkg/api/pod).
func Reference(spec *corev1.PodSpec) string {
	if spec.ServiceAccountName != "" {
		return "serviceaccounts"
	}
	variables := &corev1.PodSpec{
		InitContainers: spec.InitContainers, Containers: spec.Containers,
		EphemeralContainers: spec.EphemeralContainers, ImagePullSecrets: spec.ImagePullSecrets,
	}
	switch refs := podrefs.Of(variables); {
	case len(refs.Secrets) > 0:
		return "secrets"
	case len(refs.ConfigMaps) > 0:
		return "configmaps"
	case len(spec.ResourceClaims) > 0:
		return "resourceclaims"
	}
	for i := range spec.Volumes {
		if resource := volumeReference(&spec.Volumes[i].VolumeSource); resource != "" {
			return resource
		}
	}
	return ""
}

func volumeReference(v *corev1.VolumeSource) string {
	switch {
	case v.ConfigMap != nil:
		return "configmaps (via configmap volumes)"
	case v.Secret != nil:
		return "secrets (via secret volumes)"
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)"
	case v.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)"
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims"
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)"
	case v.AzureFile != nil:
		return "secrets (via azureFile volumes)"
	case v.Projected == nil:
		return ""
	}
	for i := range v.Projected.Sources {
		switch s := &v.Projected.Sources[i]; {
		case s.ConfigMap != nil:
			return "configmaps (via projected volumes)"
		case s.Secret != nil:
			return "secrets (via projected volumes)"
		case s.ServiceAccountToken != nil:
			return "serviceaccounts (via projected volumes)"
		case s.ClusterTrustBundle != nil:
			return "clustertrustbundles"
		case s.PodCertificate != nil:
			return "podcertificates"
		}
	}
	return ""
}
