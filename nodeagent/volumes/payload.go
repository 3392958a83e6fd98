package volumes

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/downward"
)

// file is one file of a volume.
type file struct {
	data []byte
	mode int32
	// owner is nil for root.
	owner *int64
}

// payload is the files of a volume by their path in it.
type payload map[string]file

// digest tells payloads apart.
type digest [sha256.Size]byte

func digestOf(p payload) digest {
	hash := sha256.New()
	number := func(n int64) { hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	for _, name := range slices.Sorted(maps.Keys(p)) {
		f := p[name]
		number(int64(len(name)))
		hash.Write([]byte(name))
		number(int64(f.mode))
		number(ptr.Deref(f.owner, -1))
		number(int64(len(f.data)))
		hash.Write(f.data)
	}
	return digest(hash.Sum(nil))
}

// collect gathers the files of a volume, and says when they change by themselves.
func (m *Manager) collect(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume) (payload, time.Time, error) {
	switch {
	case v.ConfigMap != nil:
		files, err := m.configMapFiles(ctx, pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Items,
			modeOf(v.ConfigMap.DefaultMode), ptr.Deref(v.ConfigMap.Optional, false))
		return files, time.Time{}, err
	case v.Secret != nil:
		files, err := m.secretFiles(ctx, pod.Namespace, v.Secret.SecretName, v.Secret.Items,
			modeOf(v.Secret.DefaultMode), ptr.Deref(v.Secret.Optional, false))
		return files, time.Time{}, err
	case v.DownwardAPI != nil:
		files, err := downwardFiles(pod, v.DownwardAPI.Items, modeOf(v.DownwardAPI.DefaultMode), m.Allocatable())
		return files, time.Time{}, err
	default:
		return m.projectedFiles(ctx, pod, v)
	}
}

// modeOf is the mode of files whose volume does not say; the API fills it in.
func modeOf(mode *int32) int32 { return ptr.Deref(mode, 0o644) }

func (m *Manager) projectedFiles(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume) (payload, time.Time, error) {
	source := v.Projected
	all := payload{}
	var refresh time.Time
	var errs []error
	for i := range source.Sources {
		files, next, err := m.projection(ctx, pod, v, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		maps.Copy(all, files)
		refresh = earlier(refresh, next)
	}
	if len(errs) > 0 {
		return nil, time.Time{}, utilerrors.NewAggregate(errs)
	}
	return all, refresh, nil
}

// projection gathers the files of one source of a projected volume.
func (m *Manager) projection(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume, index int) (payload, time.Time, error) {
	p, mode := &v.Projected.Sources[index], modeOf(v.Projected.DefaultMode)
	switch {
	case p.ConfigMap != nil:
		files, err := m.configMapFiles(ctx, pod.Namespace, p.ConfigMap.Name, p.ConfigMap.Items, mode, ptr.Deref(p.ConfigMap.Optional, false))
		return files, time.Time{}, err
	case p.Secret != nil:
		files, err := m.secretFiles(ctx, pod.Namespace, p.Secret.Name, p.Secret.Items, mode, ptr.Deref(p.Secret.Optional, false))
		return files, time.Time{}, err
	case p.DownwardAPI != nil:
		files, err := downwardFiles(pod, p.DownwardAPI.Items, mode, m.Allocatable())
		return files, time.Time{}, err
	case p.ServiceAccountToken != nil:
		return m.tokenFile(ctx, pod, p.ServiceAccountToken, mode)
	case p.ClusterTrustBundle != nil:
		files, err := m.anchorsFile(ctx, pod, p.ClusterTrustBundle, mode)
		return files, time.Time{}, err
	case p.PodCertificate != nil:
		return m.certificateFiles(ctx, CertificateRequest{Pod: pod, Volume: v.Name, Index: index, Source: p.PodCertificate}, mode)
	}
	return nil, time.Time{}, errors.New("this node projects no source of this kind")
}

// tokenFile holds a token that only those may read for whom the Pod runs, as upstream:
// its owner where all containers run as one user, the group of the volume where it has
// one, and else everybody, for nobody knows who the image's user is.
func (m *Manager) tokenFile(ctx context.Context, pod *keelsonv1.Pod, p *corev1.ServiceAccountTokenProjection, mode int32) (payload, time.Time, error) {
	token, refresh, err := m.Tokens.Token(ctx, TokenRequest{
		Pod: pod.UID, PodName: pod.Name, Namespace: pod.Namespace, Account: pod.Spec.ServiceAccountName,
		Audience: p.Audience, ExpirationSeconds: ptr.Deref(p.ExpirationSeconds, 3600),
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return payload{path.Clean(p.Path): fileOfPod(pod, []byte(token), mode)}, refresh, nil
}

// fileOfPod is a file that only those may read for whom the Pod runs.
func fileOfPod(pod *keelsonv1.Pod, data []byte, mode int32) file {
	owner := onlyUser(&pod.Spec)
	if owner != nil || fsGroup(pod) != nil {
		mode = 0o600
	}
	return file{data: data, mode: mode, owner: owner}
}

func (m *Manager) anchorsFile(ctx context.Context, pod *keelsonv1.Pod, p *corev1.ClusterTrustBundleProjection, mode int32) (payload, error) {
	anchors, err := m.Trust.Anchors(ctx, p)
	if err != nil {
		return nil, err
	}
	return payload{path.Clean(p.Path): fileOfPod(pod, anchors, mode)}, nil
}

// certificateFiles are those of a key, its certificates, and both together, as far as the
// Pod names paths for them.
func (m *Manager) certificateFiles(ctx context.Context, request CertificateRequest, mode int32) (payload, time.Time, error) {
	key, chain, again, err := m.Certificates.Bundle(ctx, request)
	if err != nil {
		return nil, time.Time{}, err
	}
	files := payload{}
	for name, data := range map[string][]byte{
		request.Source.CredentialBundlePath: slices.Concat(key, chain), request.Source.KeyPath: key, request.Source.CertificateChainPath: chain,
	} {
		if name != "" {
			files[path.Clean(name)] = fileOfPod(request.Pod, data, mode)
		}
	}
	return files, again, nil
}

func (m *Manager) configMapFiles(ctx context.Context, namespace, name string, items []corev1.KeyToPath, mode int32, optional bool) (payload, error) {
	object, err := m.Objects.ConfigMap(ctx, namespace, name)
	if err != nil {
		if !optional || !apierrors.IsNotFound(err) {
			return nil, err
		}
		object = &corev1.ConfigMap{}
	}
	data := make(map[string][]byte, len(object.Data)+len(object.BinaryData))
	maps.Copy(data, object.BinaryData)
	for key, text := range object.Data {
		data[key] = []byte(text)
	}
	return keyFiles(data, items, mode, optional, "configmap references non-existent config key: %s")
}

func (m *Manager) secretFiles(ctx context.Context, namespace, name string, items []corev1.KeyToPath, mode int32, optional bool) (payload, error) {
	object, err := m.Objects.Secret(ctx, namespace, name)
	if err != nil {
		if !optional || !apierrors.IsNotFound(err) {
			return nil, err
		}
		object = &corev1.Secret{}
	}
	return keyFiles(object.Data, items, mode, optional, "references non-existent secret key: %s")
}

// keyFiles makes a file of each key, or of each that items name.
func keyFiles(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional bool, missing string) (payload, error) {
	files := payload{}
	if len(items) == 0 {
		for key, content := range data {
			files[key] = file{data: content, mode: mode}
		}
		return files, nil
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf(missing, item.Key)
		}
		files[path.Clean(item.Path)] = file{data: content, mode: ptr.Deref(item.Mode, mode)}
	}
	return files, nil
}

func downwardFiles(pod *keelsonv1.Pod, items []corev1.DownwardAPIVolumeFile, mode int32, allocatable corev1.ResourceList) (payload, error) {
	files := payload{}
	var errs []error
	for i := range items {
		item := &items[i]
		text, err := downwardText(pod, item, allocatable)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files[path.Clean(item.Path)] = file{data: []byte(text), mode: ptr.Deref(item.Mode, mode)}
	}
	if len(errs) > 0 {
		return nil, utilerrors.NewAggregate(errs)
	}
	return files, nil
}

func downwardText(pod *keelsonv1.Pod, item *corev1.DownwardAPIVolumeFile, allocatable corev1.ResourceList) (string, error) {
	if item.FieldRef != nil {
		return downward.Metadata(pod, item.FieldRef.FieldPath)
	}
	if item.ResourceFieldRef == nil {
		return "", nil
	}
	container, err := downward.Container(pod, item.ResourceFieldRef.ContainerName)
	if err != nil {
		return "", err
	}
	return downward.Resource(pod, container, item.ResourceFieldRef, allocatable)
}

// onlyUser is the user that every container runs as, nil when they differ or do not say.
func onlyUser(spec *corev1.PodSpec) *int64 {
	var user *int64
	first, same := true, true
	look := func(c *corev1.SecurityContext) {
		var runs *int64
		if spec.SecurityContext != nil {
			runs = spec.SecurityContext.RunAsUser
		}
		if c != nil && c.RunAsUser != nil {
			runs = c.RunAsUser
		}
		same = same && (first || ptr.Equal(user, runs))
		user, first = runs, false
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			look(list[i].SecurityContext)
		}
	}
	for i := range spec.EphemeralContainers {
		look(spec.EphemeralContainers[i].SecurityContext)
	}
	if !same {
		return nil
	}
	return user
}

func fsGroup(pod *keelsonv1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}
