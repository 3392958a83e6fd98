package plugins

import (
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Sizes between which having images counts, per image; upstream's.
const (
	megabyte          = 1024 * 1024
	leastImageSize    = 23 * megabyte
	largestImageShare = 1000 * megabyte
)

// imageLocality prefers Nodes that have the Pod's images, the more the larger they are;
// an image that few Nodes have counts less, so that those are not flooded.
type imageLocality struct{}

func (imageLocality) Name() string { return NameImageLocality }

func (imageLocality) PrepareScore(pod *state.PodInfo, cluster *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	images := podImages(pod)
	spread := make([]float64, len(images))
	anywhere := false
	for i, image := range images {
		nodes := cluster.NodesWithImage(image)
		spread[i] = float64(nodes) / float64(cluster.Len())
		anywhere = anywhere || nodes > 0
	}
	if !anywhere {
		return nil // 0 for every Node
	}
	most := int64(largestImageShare) * int64(len(images))
	return &Scorer{Node: func(node *state.NodeInfo) int64 {
		var sum int64
		for i, image := range images {
			if size, has := node.Images[image]; has {
				sum += int64(float64(size) * spread[i])
			}
		}
		sum = min(max(sum, leastImageSize), most)
		return MaxScore * (sum - leastImageSize) / (most - leastImageSize)
	}}
}

func podImages(pod *state.PodInfo) []string {
	spec := &pod.Pod.Spec
	var images []string
	for i := range spec.InitContainers {
		images = append(images, state.ImageName(spec.InitContainers[i].Image))
	}
	for i := range spec.Containers {
		images = append(images, state.ImageName(spec.Containers[i].Image))
	}
	for i := range spec.Volumes {
		if image := spec.Volumes[i].Image; image != nil {
			images = append(images, state.ImageName(image.Reference))
		}
	}
	return images
}
