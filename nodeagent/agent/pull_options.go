package agent

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// pullsFolder below the root folder holds who may use the images that were pulled.
const pullsFolder = "image-pulls"

// PullOptions say how images are pulled; the names of the flags are upstream's.
type PullOptions struct {
	// SerializeImagePulls pulls one image after the other. MaxParallelImagePulls bounds
	// how many are pulled at once, 0 for any number.
	SerializeImagePulls   bool `json:"serializeImagePulls,omitempty"`
	MaxParallelImagePulls int  `json:"maxParallelImagePulls,omitempty"`
	// RegistryQPS bounds the pulls that begin each second, 0 for any number;
	// RegistryBurst is how many may begin at once after a pause.
	RegistryQPS   int `json:"registryPullQPS,omitempty"`
	RegistryBurst int `json:"registryBurst"`
	// ImagePullCredentialsVerificationPolicy says for which images that are here already a
	// Pod must show that it may use them; PreloadedImagesVerificationAllowlist are
	// those of NeverVerifyAllowlistedImages.
	ImagePullCredentialsVerificationPolicy string   `json:"imagePullCredentialsVerificationPolicy"`
	PreloadedImagesVerificationAllowlist   []string `json:"preloadedImagesVerificationAllowlist,omitempty"`
	// ImageDir is a folder whose archives of images are imported; empty: none is.
	ImageDir string `json:"imageDir,omitempty"`
}

func newPullOptions() PullOptions {
	return PullOptions{RegistryBurst: 10, ImagePullCredentialsVerificationPolicy: string(images.NeverVerifyPreloadedImages)}
}

func (o *PullOptions) addPullFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.SerializeImagePulls, "serialize-image-pulls", o.SerializeImagePulls, "Pull one image after the other.")
	fs.IntVar(&o.MaxParallelImagePulls, "max-parallel-image-pulls", o.MaxParallelImagePulls, "Most images to pull at once. 0: any number.")
	fs.IntVar(&o.RegistryQPS, "registry-qps", o.RegistryQPS, "Most pulls to begin each second; the rest waits. 0: any number.")
	fs.IntVar(&o.RegistryBurst, "registry-burst", o.RegistryBurst, "Most pulls to begin at once after a pause, with --registry-qps.")
	fs.StringVar(&o.ImagePullCredentialsVerificationPolicy, "image-pull-credentials-verification-policy", o.ImagePullCredentialsVerificationPolicy,
		"For which images that are on this machine a Pod must show the registry that it may use them: NeverVerify, NeverVerifyPreloadedImages (those that this node has pulled), NeverVerifyAllowlistedImages (all but --preloaded-images-verification-allowlist) or AlwaysVerify.")
	fs.StringSliceVar(&o.PreloadedImagesVerificationAllowlist, "preloaded-images-verification-allowlist", o.PreloadedImagesVerificationAllowlist,
		"Repositories whose images every Pod may use, with NeverVerifyAllowlistedImages; a /* at the end stands for any rest.")
	fs.StringVar(&o.ImageDir, "image-dir", o.ImageDir,
		"Folder of archives of images (.tar, .tar.gz, .tgz, .tar.zst, as docker save and ctr image export write them), imported at the start and when they change. Empty: none.")
}

func (o *PullOptions) validatePulls() []error {
	var problems []error
	if o.MaxParallelImagePulls < 0 {
		problems = append(problems, fmt.Errorf("--max-parallel-image-pulls: %d: must be 0 or more", o.MaxParallelImagePulls))
	}
	if o.SerializeImagePulls && o.MaxParallelImagePulls > 1 {
		problems = append(problems, fmt.Errorf("--max-parallel-image-pulls: %d contradicts --serialize-image-pulls: give one of them", o.MaxParallelImagePulls))
	}
	if o.RegistryQPS < 0 {
		problems = append(problems, fmt.Errorf("--registry-qps: %d: must be 0 or more", o.RegistryQPS))
	}
	if o.RegistryQPS > 0 && o.RegistryBurst < 1 {
		problems = append(problems, fmt.Errorf("--registry-burst: %d: must be at least 1", o.RegistryBurst))
	}
	if o.ImageDir != "" && !filepath.IsAbs(o.ImageDir) {
		problems = append(problems, fmt.Errorf("--image-dir: %q is not an absolute path", o.ImageDir))
	}
	if err := images.Verification(o.ImagePullCredentialsVerificationPolicy).Validate(o.PreloadedImagesVerificationAllowlist); err != nil {
		problems = append(problems, fmt.Errorf("--image-pull-credentials-verification-policy: %w", err))
	}
	return problems
}

// imagesChanged tells the Node, and forgets who may use images that are gone.
func (a *agent) imagesChanged() {
	a.reporter.Poke()
	if a.forgetImages == nil {
		return
	}
	if err := a.forgetImages(a.collector.Images()); err != nil {
		klog.Background().Error(err, "Cannot forget who may use images that are gone, will retry")
	}
}

// newImages decides about pulls as the options say.
func (o *Options) newImages(service runtime.ImageService, c clock.PassiveClock) (*images.Manager, error) {
	records, err := images.OpenRecords(filepath.Join(o.RootDir, pullsFolder))
	if err != nil {
		return nil, err
	}
	parallel := o.MaxParallelImagePulls
	if o.SerializeImagePulls {
		parallel = 1
	}
	m := images.NewManager(service, c)
	m.Options = images.Options{
		Records: records, Verification: images.Verification(o.ImagePullCredentialsVerificationPolicy),
		Preloaded: o.PreloadedImagesVerificationAllowlist,
		Limits:    images.NewLimits(parallel, float32(o.RegistryQPS), o.RegistryBurst),
	}
	return m, nil
}
