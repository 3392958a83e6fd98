package cgroups

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// DefaultRoot is the parent of all Pods' cgroups unless the node's owner names another.
	DefaultRoot = "/keelson"
	// podPrefix is what the name of a Pod's cgroup begins with; the UID follows.
	podPrefix = "pod"
)

// Layout says where the cgroups of Pods are: guaranteed Pods right below Root, the
// others below the cgroup of their class, as upstream's.
type Layout struct {
	// Root is the parent of all, such as /keelson. Two agents of one machine need two.
	Root string
}

// classes are those with a cgroup of their own.
var classes = []corev1.PodQOSClass{corev1.PodQOSBurstable, corev1.PodQOSBestEffort}

// Class is the parent of the cgroups of Pods of a class.
func (l Layout) Class(class corev1.PodQOSClass) string {
	if !slices.Contains(classes, class) {
		return l.Root
	}
	return path.Join(l.Root, strings.ToLower(string(class)))
}

// Pod is the cgroup of one Pod.
func (l Layout) Pod(class corev1.PodQOSClass, uid types.UID) string {
	return path.Join(l.Class(class), podPrefix+string(uid))
}

// homes lists where the cgroup of a Pod may be whose class nobody knows any more.
func (l Layout) homes(uid types.UID) []string {
	homes := []string{l.Pod(corev1.PodQOSGuaranteed, uid)}
	for _, class := range classes {
		homes = append(homes, l.Pod(class, uid))
	}
	return homes
}

// checkPod refuses a path that is not a Pod's.
func (l Layout) checkPod(cgroup string) error {
	parent, name := filepath.Split(cgroup)
	parent = strings.TrimSuffix(parent, "/")
	ours := parent == l.Root || slices.ContainsFunc(classes, func(c corev1.PodQOSClass) bool { return parent == l.Class(c) })
	if !ours || filepath.Clean(cgroup) != cgroup || len(name) <= len(podPrefix) || !strings.HasPrefix(name, podPrefix) {
		return fmt.Errorf("cgroup %q is not a Pod's: want %s/[class/]%s<uid>", cgroup, l.Root, podPrefix)
	}
	return nil
}

// Owns says that the cgroup is one that a Pod of this layout has.
func (l Layout) Owns(cgroup string) bool { return l.checkPod(cgroup) == nil }

// Validate says what is wrong with the Root.
func (l Layout) Validate() error {
	if !strings.HasPrefix(l.Root, "/") || l.Root == "/" || filepath.Clean(l.Root) != l.Root {
		return fmt.Errorf("%q is not a cgroup of its own: write an absolute path below the root, such as %s", l.Root, DefaultRoot)
	}
	return nil
}
