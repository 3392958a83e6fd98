package agent

import (
	"errors"
	"strings"
	"testing"
)

func TestPullOptions(t *testing.T) {
	tests := map[string]struct {
		change func(*PullOptions)
		want   string
	}{
		"the defaults":             {func(*PullOptions) {}, ""},
		"one after the other":      {func(o *PullOptions) { o.SerializeImagePulls, o.MaxParallelImagePulls = true, 1 }, ""},
		"a contradiction":          {func(o *PullOptions) { o.SerializeImagePulls, o.MaxParallelImagePulls = true, 2 }, "--max-parallel-image-pulls: 2 contradicts --serialize-image-pulls: give one of them"},
		"fewer than none at once":  {func(o *PullOptions) { o.MaxParallelImagePulls = -1 }, "--max-parallel-image-pulls: -1: must be 0 or more"},
		"fewer than none a second": {func(o *PullOptions) { o.RegistryQPS = -1 }, "--registry-qps: -1: must be 0 or more"},
		"a rate without a burst":   {func(o *PullOptions) { o.RegistryQPS, o.RegistryBurst = 5, 0 }, "--registry-burst: 0: must be at least 1"},
		"a folder of images":       {func(o *PullOptions) { o.ImageDir = "/images" }, ""},
		"a folder somewhere":       {func(o *PullOptions) { o.ImageDir = "images" }, `--image-dir: "images" is not an absolute path`},
		"a policy that is none":    {func(o *PullOptions) { o.ImagePullCredentialsVerificationPolicy = "Sometimes" }, `--image-pull-credentials-verification-policy: "Sometimes" is none of`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := newPullOptions()
			tt.change(&o)
			got := ""
			if err := errors.Join(o.validatePulls()...); err != nil {
				got = err.Error()
			}
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("error %q, want %q", got, tt.want)
			}
		})
	}
}
