package summary

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// rolePrefix starts the labels whose rest is a role of the node.
	rolePrefix = "node-role.kubernetes.io/"
	// roleLabel is the older label whose value is a role of the node.
	roleLabel = "kubernetes.io/role"
)

// Node returns the STATUS, ROLES, INTERNAL-IP and EXTERNAL-IP columns of node.
func Node(node *keelsonv1.Node) keelsonv1.NodeSummary {
	return keelsonv1.NodeSummary{
		Status:     nodeStatus(node),
		Roles:      nodeRoles(node.Labels),
		InternalIP: nodeAddress(node, corev1.NodeInternalIP),
		ExternalIP: nodeAddress(node, corev1.NodeExternalIP),
	}
}

func nodeStatus(node *keelsonv1.Node) string {
	status := "Unknown"
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if node.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(labels map[string]string) string {
	var roles []string
	for key, value := range labels {
		if role, ok := strings.CutPrefix(key, rolePrefix); ok && role != "" {
			roles = append(roles, role)
		}
		if key == roleLabel && value != "" {
			roles = append(roles, value)
		}
	}
	if len(roles) == 0 {
		return None
	}
	slices.Sort(roles)
	return strings.Join(slices.Compact(roles), ",")
}

func nodeAddress(node *keelsonv1.Node, kind corev1.NodeAddressType) string {
	for _, a := range node.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return None
}
