package agent

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"github.com/keelson-dev/keelson/nodeagent/eviction"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// kubeletConfiguration says what the kubelet's own configuration has in common with the
// settings of this agent, for programs that ask /configz. It holds no secrets.
func kubeletConfiguration(o *Options) kubeletv1beta1.KubeletConfiguration {
	hard := o.EvictionHard
	if hard == nil {
		hard = eviction.DefaultHard()
	}
	return kubeletv1beta1.KubeletConfiguration{
		Address: o.ServerAddress, Port: int32(o.ServerPort),
		TLSCertFile: o.TLSCertFile, TLSPrivateKeyFile: o.TLSPrivateKeyFile,
		StaticPodPath: o.PodManifestPath, FileCheckFrequency: o.FileCheckFrequency,
		StaticPodURL: o.ManifestURL, HTTPCheckFrequency: o.HTTPCheckFrequency,
		ClusterDomain: o.ClusterDomain, ClusterDNS: o.ClusterDNS,
		MaxPods: int32(o.MaxPods), CgroupRoot: o.CgroupRoot,
		KubeReserved: o.KubeReserved, SystemReserved: o.SystemReserved,
		AllowedUnsafeSysctls: o.AllowedUnsafeSysctls,

		ImageGCHighThresholdPercent: new(int32(o.ImageGCHighThreshold)), ImageGCLowThresholdPercent: new(int32(o.ImageGCLowThreshold)),
		ImageMinimumGCAge: o.ImageMinimumGCAge, ImageMaximumGCAge: o.ImageMaximumGCAge,
		ContainerLogMaxSize: o.ContainerLogMaxSize, ContainerLogMaxFiles: new(int32(o.ContainerLogMaxFiles)),
		ContainerLogMaxWorkers: new(int32(o.ContainerLogMaxWorkers)), ContainerLogMonitorInterval: new(o.ContainerLogMonitorInterval),
		EvictionHard: hard, EvictionSoft: o.EvictionSoft, EvictionSoftGracePeriod: o.EvictionSoftGracePeriod,
		EvictionMinimumReclaim: o.EvictionMinimumReclaim, EvictionPressureTransitionPeriod: o.EvictionPressureTransitionPeriod,
		EvictionMaxPodGracePeriod: int32(o.EvictionMaxPodGracePeriod),
	}
}

// runningPods are the Pods that the runtime runs, with the containers that run.
func (a *agent) runningPods(ctx context.Context) ([]corev1.Pod, error) {
	states, err := a.storage.Peek(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}
	var pods []corev1.Pod
	for _, state := range states {
		if !slices.ContainsFunc(state.Sandboxes, func(s runtime.Sandbox) bool { return s.State == runtime.Running }) {
			continue
		}
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: state.Name, Namespace: state.Namespace, UID: state.UID}}
		for _, c := range state.Containers {
			if c.State == runtime.Running {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image})
			}
		}
		pods = append(pods, pod)
	}
	return pods, nil
}
