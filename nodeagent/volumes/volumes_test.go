package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// fakeObjects are ConfigMaps and Secrets by name.
type fakeObjects struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string]string
}

func (f *fakeObjects) ConfigMap(_ context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	data, ok := f.configMaps[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}, nil
}

func (f *fakeObjects) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	data, ok := f.secrets[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return secret, nil
}

type fakeTokens struct {
	text    string
	refresh time.Time
	err     error
	asked   []TokenRequest
	forgot  []types.UID
}

func (f *fakeTokens) Token(_ context.Context, r TokenRequest) (string, time.Time, error) {
	f.asked = append(f.asked, r)
	return f.text, f.refresh, f.err
}

func (f *fakeTokens) Forget(uid types.UID) { f.forgot = append(f.forgot, uid) }

// fakeMounter remembers mounts; memory is an ordinary folder.
type fakeMounter struct {
	memory map[string]string
	bound  map[string]string
	below  []string
}

func (f *fakeMounter) MountMemory(dir, size string) error { f.memory[dir] = size; return nil }
func (f *fakeMounter) MountHugePages(dir string, pages HugePages) error {
	f.memory[dir] = fmt.Sprintf("%d pages of %d", pages.Size/pages.PageSize, pages.PageSize)
	return nil
}
func (f *fakeMounter) IsMountPoint(dir string) (bool, error) {
	_, ok := f.memory[dir]
	return ok, nil
}
func (f *fakeMounter) Bind(open *os.File, target string) error {
	f.bound[target] = open.Name()
	return nil
}
func (f *fakeMounter) Unmount(target string) error   { delete(f.bound, target); return nil }
func (f *fakeMounter) UnmountBelow(dir string) error { f.below = append(f.below, dir); return nil }

type rig struct {
	*Manager
	objects *fakeObjects
	tokens  *fakeTokens
	mounter *fakeMounter
}

func newRig(t *testing.T) rig {
	t.Helper()
	r := rig{
		objects: &fakeObjects{configMaps: map[string]map[string]string{}, secrets: map[string]map[string]string{}},
		tokens:  &fakeTokens{text: "secret-token"},
		mounter: &fakeMounter{memory: map[string]string{}, bound: map[string]string{}},
	}
	r.Manager = New(Options{
		PodsDir: t.TempDir(), Objects: r.objects, Tokens: r.tokens, Mounter: r.mounter, Clock: clocktesting.NewFakePassiveClock(time.Unix(0, 0)),
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourceCPU: resource.MustParse("2")}
		},
	})
	return r
}

// podWith mounts every volume at /<name>.
func podWith(volumes ...corev1.Volume) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid", Labels: map[string]string{"app": "x"}}}
	pod.Spec.ServiceAccountName = "robot"
	c := corev1.Container{Name: "c"}
	for _, v := range volumes {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	pod.Spec.Containers, pod.Spec.Volumes = []corev1.Container{c}, volumes
	return pod
}

func configMapVolume(name, object string, change ...func(*corev1.ConfigMapVolumeSource)) corev1.Volume {
	source := &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: object}, DefaultMode: new(int32(0o644))}
	for _, c := range change {
		c(source)
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{ConfigMap: source}}
}

func (r rig) dir(kind, name string) string {
	return filepath.Join(r.PodsDir, "uid", "volumes", "kubernetes.io~"+kind, name)
}

func TestFilesOfEachSource(t *testing.T) {
	r := newRig(t)
	r.objects.configMaps["settings"] = map[string]string{"color": "red", "shape": "round"}
	r.objects.secrets["key"] = map[string]string{"password": "sesame"}
	about := []corev1.DownwardAPIVolumeFile{
		{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"}},
	}
	pod := podWith(
		configMapVolume("all", "settings"),
		configMapVolume("some", "settings", func(s *corev1.ConfigMapVolumeSource) {
			s.Items = []corev1.KeyToPath{{Key: "shape", Path: "deep/er"}, {Key: "none", Path: "x"}}
			s.Optional = new(true)
		}),
		corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}}},
		corev1.Volume{Name: "about", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: about}}},
		corev1.Volume{Name: "joined", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: []corev1.KeyToPath{{Key: "color", Path: "color"}}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: new(true)}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: new(int64(700))}},
		}}}},
	)
	r.tokens.refresh = time.Unix(500, 0)
	again, err := r.SetUp(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Equal(r.tokens.refresh) {
		t.Errorf("looks again at %v, want when the token is due", again)
	}
	got := map[string]map[string]string{
		"all": contents(t, r.dir("configmap", "all")), "some": contents(t, r.dir("configmap", "some")), "secret": contents(t, r.dir("secret", "secret")),
		"about": contents(t, r.dir("downward-api", "about")), "joined": contents(t, r.dir("projected", "joined")),
	}
	want := map[string]map[string]string{
		"all": {"color": "red", "shape": "round"}, "some": {"deep/er": "round"}, "secret": {"password": "sesame"},
		"about": {"labels": `app="x"`, "cpu": "2"}, "joined": {"color": "red", "token": "secret-token"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]TokenRequest{{Pod: "uid", PodName: "p", Namespace: "ns", Account: "robot", Audience: "vault", ExpirationSeconds: 700}}, r.tokens.asked); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	for _, kind := range []string{"secret/secret", "downward-api/about", "projected/joined"} {
		if _, ok := r.mounter.memory[filepath.Join(r.PodsDir, "uid/volumes/kubernetes.io~"+kind)]; !ok {
			t.Errorf("%s is on disk", kind)
		}
	}
}

func TestWhatIsWrongWithAVolume(t *testing.T) {
	tests := map[string]struct {
		volume corev1.Volume
		tokens error
		want   string
	}{
		"no such ConfigMap": {volume: configMapVolume("v", "none"), want: `MountVolume.SetUp failed for volume "v" : configmap "none" not found`},
		"no such key": {volume: configMapVolume("v", "settings", func(s *corev1.ConfigMapVolumeSource) { s.Items = []corev1.KeyToPath{{Key: "size", Path: "p"}} }),
			want: `MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: size`},
		"no such Secret": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none"}}},
			want: `MountVolume.SetUp failed for volume "v" : secret "none" not found`},
		"two missing sources": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "b"}}},
		}}}}, want: `MountVolume.SetUp failed for volume "v" : [secret "a" not found, configmap "b" not found]`},
		"no token": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"}}}}}}, tokens: errors.New("away"),
			want: `MountVolume.SetUp failed for volume "v" : away`},
		"huge pages": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}},
			want: `MountVolume.SetUp failed for volume "v" : medium HugePages: hugePages storage requested, but there is no resource request for huge pages`},
		"an unknown medium": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Tape"}}},
			want: `MountVolume.SetUp failed for volume "v" : unknown storage medium "Tape"`},
		"a kind that is not made": {volume: corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}},
			want: `MountVolume.SetUp failed for volume "v" : no volume plugin matched: this node makes no volumes of this kind`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.objects.configMaps["settings"] = map[string]string{"color": "red"}
			r.tokens.err = tt.tokens
			_, err := r.SetUp(t.Context(), podWith(tt.volume))
			found := Errors(err)
			if len(found) != 1 || found[0].Error() != tt.want || found[0].Stale {
				t.Errorf("errors %v, want %s", err, tt.want)
			}
		})
	}
}

func TestFilesThatCannotBeRenewedStay(t *testing.T) {
	r := newRig(t)
	r.objects.configMaps["settings"] = map[string]string{"color": "red"}
	pod := podWith(configMapVolume("v", "settings"))
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	delete(r.objects.configMaps, "settings")
	_, err := r.SetUp(t.Context(), pod)
	if found := Errors(err); len(found) != 1 || !found[0].Stale {
		t.Errorf("errors %v, want one about old files", err)
	}
	if diff := cmp.Diff(map[string]string{"color": "red"}, contents(t, r.dir("configmap", "v"))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestOnlyMountedVolumesAreMade(t *testing.T) {
	r := newRig(t)
	pod := podWith()
	pod.Spec.Volumes = []corev1.Volume{configMapVolume("unused", "none")}
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		t.Error(err)
	}
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		VolumeMounts: []corev1.VolumeMount{{Name: "unused", MountPath: "/x"}},
	}}}
	if _, err := r.SetUp(t.Context(), pod); err == nil {
		t.Error("an ephemeral container's volume was not made")
	}
}

func TestEmptyDir(t *testing.T) {
	memory := func(limit string, containerLimits ...string) *keelsonv1.Pod {
		source := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
		if limit != "" {
			source.SizeLimit = new(resource.MustParse(limit))
		}
		pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: source}})
		for i, l := range containerLimits {
			if i > 0 {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "x"})
			}
			if l != "" {
				pod.Spec.Containers[i].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(l)}
			}
		}
		return pod
	}
	for name, tt := range map[string]struct {
		pod  *keelsonv1.Pod
		want string
	}{
		"as much as the node has":                 {pod: memory(""), want: "4294967296"},
		"its own limit":                           {pod: memory("1Mi"), want: "1048576"},
		"the limits of all containers":            {pod: memory("", "1Mi", "2Mi"), want: "3145728"},
		"one container without a limit":           {pod: memory("", "1Mi", ""), want: "4294967296"},
		"the smaller of its own and those limits": {pod: memory("2Mi", "1Mi"), want: "1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if _, err := r.SetUp(t.Context(), tt.pod); err != nil {
				t.Fatal(err)
			}
			if got := r.mounter.memory[r.dir("empty-dir", "v")]; got != tt.want {
				t.Errorf("size %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEmptyDirOnDiskKeepsWhatIsInIt(t *testing.T) {
	r := newRig(t)
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	for range 2 {
		if _, err := r.SetUp(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(r.dir("empty-dir", "v")); err != nil || info.Mode().Perm() != 0o777 && !exists(filepath.Join(r.dir("empty-dir", "v"), "x")) {
			t.Fatalf("the folder has mode %v, %v", info.Mode(), err)
		}
		if err := os.WriteFile(filepath.Join(r.dir("empty-dir", "v"), "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(r.dir("empty-dir", "v"), 0o711); err != nil { // a container may
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(r.dir("empty-dir", "v")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the folder has mode %v, %v, want what the container made of it", info.Mode(), err)
	}
	if err := r.TearDown(t.Context(), "uid"); err != nil {
		t.Fatal(err)
	}
	if exists(r.dir("empty-dir", "v")) {
		t.Error("the volume is still there")
	}
	if len(r.mounter.below) != 1 || len(r.tokens.forgot) != 1 {
		t.Errorf("unmounted below %v, forgot the tokens of %v", r.mounter.below, r.tokens.forgot)
	}
}

func TestMounts(t *testing.T) {
	r := newRig(t)
	host := t.TempDir()
	pod := podWith(
		configMapVolume("config", "settings"),
		corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(host, "made")}}},
	)
	r.objects.configMaps["settings"] = map[string]string{"color": "red"}
	if _, err := r.SetUp(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	c := &pod.Spec.Containers[0]
	c.VolumeMounts[1].SubPathExpr = "of-$(WHO)"
	c.VolumeMounts[2].ReadOnly, c.VolumeMounts[2].RecursiveReadOnly = true, new(corev1.RecursiveReadOnlyEnabled)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "host", MountPath: "shared", MountPropagation: new(corev1.MountPropagationBidirectional)})
	got, err := r.Mounts(t.Context(), pod, c, []string{"WHO=me"})
	if err != nil {
		t.Fatal(err)
	}
	bound := filepath.Join(r.PodsDir, "uid/volume-subpaths/disk/c/1")
	made := filepath.Join(host, "made")
	want := []runtime.Mount{
		{HostPath: r.dir("configmap", "config"), ContainerPath: "/config", ReadOnly: true, Relabel: true},
		{HostPath: bound, ContainerPath: "/disk", Relabel: true},
		{HostPath: made, ContainerPath: "/host", ReadOnly: true, RecursiveReadOnly: true},
		{HostPath: made, ContainerPath: "/shared", Propagation: runtime.PropagationBidirectional},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if source := r.mounter.bound[bound]; !strings.HasSuffix(source, "disk/of-me") {
		t.Errorf("bound %v", r.mounter.bound)
	}
	if err := r.ReleaseMounts(pod, c); err != nil || len(r.mounter.bound) != 0 {
		t.Errorf("still bound: %v, %v", r.mounter.bound, err)
	}
}

func TestTokenFileIsForThoseWhoRun(t *testing.T) {
	user := int64(os.Getuid())
	other := int64(1234)
	tests := map[string]struct {
		change func(*corev1.PodSpec)
		mode   int32
		owner  *int64
	}{
		"nobody knows who":       {change: func(*corev1.PodSpec) {}, mode: 0o644},
		"one user":               {change: func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user} }, mode: 0o600, owner: &user},
		"a group of the volumes": {change: func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{FSGroup: &other} }, mode: 0o600},
		"two users": {change: func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
			s.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{RunAsUser: &other}}}
		}, mode: 0o644},
		"one container that does not say": {change: func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{RunAsUser: &other}}}
		}, mode: 0o644},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			pod := podWith()
			tt.change(&pod.Spec)
			files, _, err := r.tokenFile(t.Context(), pod, &corev1.ServiceAccountTokenProjection{Path: "t"}, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			want := payload{"t": {data: []byte("secret-token"), mode: tt.mode, owner: tt.owner}}
			if diff := cmp.Diff(want, files, cmp.AllowUnexported(file{})); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}
