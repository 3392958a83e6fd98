package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/keelson-dev/keelson/nodeagent/eviction"
)

// StorageOptions say what is kept on the node's disks, and what happens when the node runs
// short of something. Names, meanings and defaults are the kubelet's.
type StorageOptions struct {
	// MinimumContainerTTLDuration is how long a dead container stays,
	// MaximumDeadContainersPerContainer how many of each container do beside the newest,
	// MaximumDeadContainers how many in all; a negative number is no limit.
	MinimumContainerTTLDuration       metav1.Duration `json:"minimumContainerTTLDuration"`
	MaximumDeadContainersPerContainer int             `json:"maximumDeadContainersPerContainer"`
	MaximumDeadContainers             int             `json:"maximumDeadContainers"`

	// ImageGCHighThreshold is the percentage of its disk above which unused images are
	// removed, down to ImageGCLowThreshold. ImageMinimumGCAge protects new ones;
	// ImageMaximumGCAge removes what nobody used for so long, 0 nothing.
	ImageGCHighThreshold int             `json:"imageGCHighThreshold"`
	ImageGCLowThreshold  int             `json:"imageGCLowThreshold"`
	ImageMinimumGCAge    metav1.Duration `json:"imageMinimumGCAge"`
	ImageMaximumGCAge    metav1.Duration `json:"imageMaximumGCAge"`

	// ContainerLogMaxSize is how large a log may grow before it is put aside, a negative
	// number for ever; ContainerLogMaxFiles how many files a container may have.
	ContainerLogMaxSize         string          `json:"containerLogMaxSize"`
	ContainerLogMaxFiles        int             `json:"containerLogMaxFiles"`
	ContainerLogMaxWorkers      int             `json:"containerLogMaxWorkers"`
	ContainerLogMonitorInterval metav1.Duration `json:"containerLogMonitorInterval"`

	// EvictionHard are thresholds by signal below which Pods are ended at once; nil means
	// upstream's. Those of EvictionSoft are below them for EvictionSoftGracePeriod first.
	EvictionHard                     map[string]string `json:"evictionHard,omitempty"`
	EvictionSoft                     map[string]string `json:"evictionSoft,omitempty"`
	EvictionSoftGracePeriod          map[string]string `json:"evictionSoftGracePeriod,omitempty"`
	EvictionMinimumReclaim           map[string]string `json:"evictionMinimumReclaim,omitempty"`
	EvictionPressureTransitionPeriod metav1.Duration   `json:"evictionPressureTransitionPeriod"`
	// EvictionMaxPodGracePeriod is the most that a Pod gets to stop at a soft threshold,
	// in seconds.
	EvictionMaxPodGracePeriod int `json:"evictionMaxPodGracePeriod"`
}

func newStorageOptions() StorageOptions {
	return StorageOptions{
		MaximumDeadContainersPerContainer: 1, MaximumDeadContainers: -1,
		ImageGCHighThreshold: 85, ImageGCLowThreshold: 80, ImageMinimumGCAge: metav1.Duration{Duration: 2 * time.Minute},
		ContainerLogMaxSize: "10Mi", ContainerLogMaxFiles: 5, ContainerLogMaxWorkers: 1,
		ContainerLogMonitorInterval:      metav1.Duration{Duration: 10 * time.Second},
		EvictionPressureTransitionPeriod: metav1.Duration{Duration: 5 * time.Minute},
	}
}

func (o *StorageOptions) addStorageFlags(fs *pflag.FlagSet) {
	fs.DurationVar(&o.MinimumContainerTTLDuration.Duration, "minimum-container-ttl-duration", o.MinimumContainerTTLDuration.Duration, "How long a dead container stays at least, such as 10s or 2h45m.")
	fs.IntVar(&o.MaximumDeadContainersPerContainer, "maximum-dead-containers-per-container", o.MaximumDeadContainersPerContainer, "How many dead containers stay of each container beside its newest one. Negative: all.")
	fs.IntVar(&o.MaximumDeadContainers, "maximum-dead-containers", o.MaximumDeadContainers, "How many of these stay on the node. Negative: all.")
	fs.IntVar(&o.ImageGCHighThreshold, "image-gc-high-threshold", o.ImageGCHighThreshold, "Percentage of disk usage from which on unused images are removed. 100: never.")
	fs.IntVar(&o.ImageGCLowThreshold, "image-gc-low-threshold", o.ImageGCLowThreshold, "Percentage of disk usage down to which they are removed.")
	fs.DurationVar(&o.ImageMinimumGCAge.Duration, "minimum-image-ttl-duration", o.ImageMinimumGCAge.Duration, "How long an unused image stays after it came.")
	fs.DurationVar(&o.ImageMaximumGCAge.Duration, "image-maximum-gc-age", o.ImageMaximumGCAge.Duration, "How long an image stays that nobody uses. 0: until the disk is full.")
	fs.StringVar(&o.ContainerLogMaxSize, "container-log-max-size", o.ContainerLogMaxSize, "Size of a container's log from which on it is put aside, such as 10Mi. Negative: never.")
	fs.IntVar(&o.ContainerLogMaxFiles, "container-log-max-files", o.ContainerLogMaxFiles, "How many files of log a container may have, at least 2.")
	fs.IntVar(&o.ContainerLogMaxWorkers, "container-log-max-workers", o.ContainerLogMaxWorkers, "How many logs are put aside at a time.")
	fs.DurationVar(&o.ContainerLogMonitorInterval.Duration, "container-log-monitor-interval", o.ContainerLogMonitorInterval.Duration, "How often the size of logs is looked at.")

	fs.Var(cliflag.NewLangleSeparatedMapStringString(&o.EvictionHard), "eviction-hard", "Thresholds below which Pods are ended at once, such as memory.available<1Gi. Default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%.")
	fs.Var(cliflag.NewLangleSeparatedMapStringString(&o.EvictionSoft), "eviction-soft", "Thresholds below which Pods are ended after a grace period, such as memory.available<1.5Gi.")
	fs.Var(cliflag.NewMapStringString(&o.EvictionSoftGracePeriod), "eviction-soft-grace-period", "Grace periods of these thresholds, such as memory.available=1m30s.")
	fs.Var(cliflag.NewMapStringString(&o.EvictionMinimumReclaim), "eviction-minimum-reclaim", "How much more than a threshold must be free before a shortage is over, such as imagefs.available=2Gi.")
	fs.DurationVar(&o.EvictionPressureTransitionPeriod.Duration, "eviction-pressure-transition-period", o.EvictionPressureTransitionPeriod.Duration, "How long the Node says that it is short of something after it no longer is.")
	fs.IntVar(&o.EvictionMaxPodGracePeriod, "eviction-max-pod-grace-period", o.EvictionMaxPodGracePeriod, "Most seconds that a Pod gets to stop at a soft threshold.")
}

// thresholds returns what is asked for, with upstream's defaults.
func (o *StorageOptions) thresholds() ([]eviction.Threshold, error) {
	hard := o.EvictionHard
	if hard == nil {
		hard = eviction.DefaultHard()
	}
	return eviction.Parse(eviction.Settings{
		Hard: hard, Soft: o.EvictionSoft, SoftGracePeriod: o.EvictionSoftGracePeriod, MinimumReclaim: o.EvictionMinimumReclaim,
	})
}

// logMaxSize is ContainerLogMaxSize in bytes.
func (o *StorageOptions) logMaxSize() (int64, error) {
	size, err := resource.ParseQuantity(o.ContainerLogMaxSize)
	if err != nil {
		return 0, fmt.Errorf("--container-log-max-size: %q is no size, such as 10Mi: %w", o.ContainerLogMaxSize, err)
	}
	if size.IsZero() {
		return 0, errors.New("--container-log-max-size: 0: must be more; a negative size means that logs grow without end")
	}
	return size.Value(), nil
}

// validateStorage returns every problem at once.
func (o *StorageOptions) validateStorage() []error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	for flag, percent := range map[string]int{"image-gc-high-threshold": o.ImageGCHighThreshold, "image-gc-low-threshold": o.ImageGCLowThreshold} {
		if percent < 0 || percent > 100 {
			bad(flag, "%d: must be between 0 and 100, inclusive", percent)
		}
	}
	if o.ImageGCLowThreshold >= o.ImageGCHighThreshold {
		bad("image-gc-low-threshold", "%d: must be less than --image-gc-high-threshold, which is %d", o.ImageGCLowThreshold, o.ImageGCHighThreshold)
	}
	for flag, d := range map[string]metav1.Duration{
		"minimum-container-ttl-duration": o.MinimumContainerTTLDuration, "minimum-image-ttl-duration": o.ImageMinimumGCAge,
		"image-maximum-gc-age": o.ImageMaximumGCAge, "eviction-pressure-transition-period": o.EvictionPressureTransitionPeriod,
	} {
		if d.Duration < 0 {
			bad(flag, "%v: must not be negative", d.Duration)
		}
	}
	if age := o.ImageMaximumGCAge.Duration; age != 0 && age <= o.ImageMinimumGCAge.Duration {
		bad("image-maximum-gc-age", "%v: must be more than --minimum-image-ttl-duration, which is %v, or 0", age, o.ImageMinimumGCAge.Duration)
	}
	if _, err := o.logMaxSize(); err != nil {
		errs = append(errs, err)
	}
	if o.ContainerLogMaxFiles < 2 {
		bad("container-log-max-files", "%d: must be at least 2", o.ContainerLogMaxFiles)
	}
	if o.ContainerLogMaxWorkers < 1 {
		bad("container-log-max-workers", "%d: must be at least 1", o.ContainerLogMaxWorkers)
	}
	if o.ContainerLogMonitorInterval.Duration < 3*time.Second {
		bad("container-log-monitor-interval", "%v: must be at least 3s", o.ContainerLogMonitorInterval.Duration)
	}
	if o.EvictionMaxPodGracePeriod < 0 {
		bad("eviction-max-pod-grace-period", "%d: must not be negative", o.EvictionMaxPodGracePeriod)
	}
	if _, err := o.thresholds(); err != nil {
		errs = append(errs, err)
	}
	return errs
}
