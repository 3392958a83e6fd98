package volumes

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// hugePod has one container for each request.
func hugePod(medium corev1.StorageMedium, limit string, requests ...corev1.ResourceName) *keelsonv1.Pod {
	source := &corev1.EmptyDirVolumeSource{Medium: medium}
	if limit != "" {
		source.SizeLimit = new(resource.MustParse(limit))
	}
	pod := podWith(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: source}})
	for i, name := range requests {
		if i > 0 {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: "x"})
			pod.Spec.InitContainers[i-1].Resources.Requests = corev1.ResourceList{name: resource.MustParse("2Gi")}
			continue
		}
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{name: resource.MustParse("2Gi")}
	}
	return pod
}

func TestHugePages(t *testing.T) {
	const none = "hugePages storage requested, but there is no resource request for huge pages"
	for name, tt := range map[string]struct {
		pod         *keelsonv1.Pod
		want, error string
	}{
		"the size that the Pod asks for":         {pod: hugePod("HugePages", "", "hugepages-2Mi"), want: "0 pages of 2097152"},
		"the size of the medium":                 {pod: hugePod("HugePages-1Gi", "", "hugepages-2Mi", "hugepages-1Gi"), want: "0 pages of 1073741824"},
		"the same size twice, and a limit":       {pod: hugePod("HugePages", "6Mi", "hugepages-2Mi", "hugepages-2Mi"), want: "3 pages of 2097152"},
		"two sizes":                              {pod: hugePod("HugePages", "", "hugepages-2Mi", "hugepages-1Gi"), error: "medium: HugePages can't be used if container requests multiple huge page sizes"},
		"no request":                             {pod: hugePod("HugePages", "", "memory"), error: "medium HugePages: " + none},
		"a request for another size":             {pod: hugePod("HugePages-1Gi", "", "hugepages-2Mi"), error: "medium HugePages-1Gi: " + none},
		"a medium whose size cannot be a number": {pod: hugePod("HugePages-big", "", "hugepages-2Mi"), error: "medium HugePages-big: " + resource.ErrFormatWrong.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for range 2 { // what is mounted stays
				_, err := r.SetUp(t.Context(), tt.pod)
				if found := Errors(err); tt.error != "" && (len(found) != 1 || found[0].Error() != `MountVolume.SetUp failed for volume "v" : `+tt.error) || tt.error == "" && err != nil {
					t.Fatalf("errors %v, want %q", err, tt.error)
				}
			}
			if got := r.mounter.memory[r.dir("empty-dir", "v")]; got != tt.want {
				t.Errorf("mounted %s, want %s", got, tt.want)
			}
		})
	}
}

func TestKernelMountsHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and a kernel with pages of 2 MiB: ", err)
	}
	dir := t.TempDir()
	if err := (Kernel{}).MountHugePages(dir, HugePages{PageSize: 2 << 20, Size: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (Kernel{}).Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil || stat.Type != unix.HUGETLBFS_MAGIC || stat.Bsize != 2<<20 || stat.Blocks != 4 {
		t.Errorf("the file system is %+v, %v", stat, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	mounts, err := mountsIn(dir)
	if err != nil || !slices.Contains(mounts, dir) {
		t.Errorf("mounts %v, %v", mounts, err)
	}
}
