package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/keelson-dev/keelson/nodeagent/eviction"
)

// storageOptions are the defaults changed by flags.
func storageOptions(t *testing.T, args ...string) *StorageOptions {
	t.Helper()
	o := newStorageOptions()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.addStorageFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestStorageFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string // parts of errors, all of them at once; none means that all is well
	}{
		"defaults": {},
		"everything that may be switched off": {args: []string{
			"--image-gc-high-threshold=100", "--container-log-max-size=-1", "--maximum-dead-containers=-1", "--maximum-dead-containers-per-container=-1", "--eviction-hard=",
		}},
		"percentages": {args: []string{"--image-gc-high-threshold=101", "--image-gc-low-threshold=-1"}, want: []string{
			"--image-gc-high-threshold: 101: must be between 0 and 100, inclusive", "--image-gc-low-threshold: -1: must be between 0 and 100, inclusive",
		}},
		"a low threshold above the high one": {args: []string{"--image-gc-low-threshold=90"}, want: []string{
			"--image-gc-low-threshold: 90: must be less than --image-gc-high-threshold, which is 85",
		}},
		"times": {args: []string{"--minimum-container-ttl-duration=-1s", "--image-maximum-gc-age=1m", "--container-log-monitor-interval=2s", "--eviction-max-pod-grace-period=-1"}, want: []string{
			"--minimum-container-ttl-duration: -1s: must not be negative",
			"--image-maximum-gc-age: 1m0s: must be more than --minimum-image-ttl-duration, which is 2m0s, or 0",
			"--container-log-monitor-interval: 2s: must be at least 3s", "--eviction-max-pod-grace-period: -1: must not be negative",
		}},
		"logs": {args: []string{"--container-log-max-size=many", "--container-log-max-files=1", "--container-log-max-workers=0"}, want: []string{
			`--container-log-max-size: "many" is no size, such as 10Mi`, "--container-log-max-files: 1: must be at least 2", "--container-log-max-workers: 0: must be at least 1",
		}},
		"no size at all": {args: []string{"--container-log-max-size=0"}, want: []string{"--container-log-max-size: 0: must be more"}},
		"thresholds": {args: []string{"--eviction-hard=disk.available<1Gi", "--eviction-soft=memory.available<1Gi"}, want: []string{
			"--eviction-hard: unsupported eviction signal disk.available",
			"--eviction-soft-grace-period: grace period must be specified for the soft eviction threshold memory.available",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			for _, err := range storageOptions(t, test.args...).validateStorage() {
				text.WriteString(err.Error() + "\n")
			}
			for _, part := range test.want {
				if !strings.Contains(text.String(), part) {
					t.Errorf("errors:\n%swant %q in them", text.String(), part)
				}
			}
			if test.want == nil && text.Len() > 0 {
				t.Errorf("refused: %s", text.String())
			}
		})
	}
}

func TestThresholdsReplaceTheDefaults(t *testing.T) {
	signals := func(args ...string) (names []string) {
		t.Helper()
		thresholds, err := storageOptions(t, args...).thresholds()
		if err != nil {
			t.Fatal(err)
		}
		for _, threshold := range withPodsMemory(thresholds) {
			names = append(names, string(threshold.Signal)+" "+threshold.Grace.String())
		}
		return names
	}
	byDefault := []string{"imagefs.available 0s", "imagefs.inodesFree 0s", "memory.available 0s", "nodefs.available 0s", "nodefs.inodesFree 0s", "allocatableMemory.available 0s"}
	if diff := cmp.Diff(byDefault, signals()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"pid.available 0s"}, signals("--eviction-hard=pid.available<10")); diff != "" {
		t.Error(diff)
	}
	soft := signals("--eviction-hard=", "--eviction-soft=memory.available<1Gi", "--eviction-soft-grace-period=memory.available=90s")
	if diff := cmp.Diff([]string{"memory.available " + (90 * time.Second).String()}, soft); diff != "" {
		t.Error(diff)
	}
	thresholds, err := storageOptions(t).thresholds()
	if err != nil {
		t.Fatal(err)
	}
	if got := eviction.HardMemory(thresholds, 8<<30); got != 100<<20 {
		t.Errorf("of the memory %d bytes must stay free", got)
	}
	if got := eviction.HardNodeFs(thresholds, 1000); got != 100 {
		t.Errorf("of the disk %d bytes of 1000 must stay free", got)
	}
}

func TestConfigurationOfAKubelet(t *testing.T) {
	o := NewOptions()
	c := kubeletConfiguration(o)
	if c.EvictionHard["nodefs.available"] != "10%" || *c.ImageGCHighThresholdPercent != 85 || c.ContainerLogMaxSize != "10Mi" || c.Port != 10250 || c.MaxPods != 110 {
		t.Errorf("configuration %+v", c)
	}
	o.EvictionHard = map[string]string{}
	if c := kubeletConfiguration(o); len(c.EvictionHard) != 0 {
		t.Errorf("thresholds %v", c.EvictionHard)
	}
}
