package lifecycle

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// volumePull is the image of a volume on its way; image and err are set when done is
// closed.
type volumePull struct {
	volume *corev1.Volume
	done   chan struct{}
	image  runtime.Image
	err    error
}

// volumePulls are by the volume's name.
type volumePulls map[string]*volumePull

// startVolumePulls gets the images of the volumes that the containers of steps mount, each
// once. Those that are mounted already are not asked for again, whatever their policy.
func (m *Manager) startVolumePulls(ctx context.Context, pod *keelsonv1.Pod, steps []startStep, credentials credentialSource) (volumePulls, error) {
	pulls := volumePulls{}
	for _, step := range steps {
		missing, err := m.Volumes.ImageVolumes(pod, step.Container)
		if err != nil {
			return nil, err
		}
		for _, volume := range missing {
			if pulls[volume.Name] != nil {
				continue
			}
			p := &volumePull{volume: volume, done: make(chan struct{})}
			pulls[volume.Name] = p
			go func() {
				defer close(p.done)
				p.image, p.err = m.Images.Ensure(ctx, images.Request{
					Pod: pod.UID, Image: volume.Image.Reference, Policy: volume.Image.PullPolicy, Credentials: credentials,
				}, func(e images.Event) { m.Recorder.Record(pod, Note{Type: e.Type, Reason: e.Reason, Message: e.Message}) })
			}()
		}
	}
	return pulls, nil
}

// wait returns the pulls that a container needs when all of them have ended; the error is
// the last one that failed, as upstream.
func (v volumePulls) wait(c *corev1.Container) ([]*volumePull, error) {
	var needed []*volumePull
	var err error
	for i := range c.VolumeMounts {
		p := v[c.VolumeMounts[i].Name]
		if p == nil {
			continue
		}
		<-p.done
		if p.err != nil {
			err = p.err
		}
		needed = append(needed, p)
	}
	return needed, err
}

// mountImages mounts the images of volumes, which are here.
func (m *Manager) mountImages(ctx context.Context, pod *keelsonv1.Pod, container string, pulled []*volumePull) error {
	for _, p := range pulled {
		ref := p.image.Digest
		if ref == "" {
			ref = p.image.Ref
		}
		if err := m.Volumes.MountImage(ctx, pod, p.volume, ref); err != nil {
			return m.startFailed(ctx, pod, container, reasonCreateError, err)
		}
	}
	return nil
}

// noteVolumeImage tells why a container does not start for want of a volume's image.
func (m *Manager) noteVolumeImage(pod *keelsonv1.Pod, container string, err error) {
	if waiting, ok := errors.AsType[*images.Error](err); ok {
		m.Recorder.Record(pod, Note{container, corev1.EventTypeWarning, eventFailed, "Error: " + waiting.Reason})
	}
}
