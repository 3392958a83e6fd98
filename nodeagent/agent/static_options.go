package agent

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// minimumCheck keeps manifests from being read all the time.
const minimumCheck = time.Second

// addStaticFlags adds the flags of static Pods; their names are upstream's.
func (o *Options) addStaticFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.PodManifestPath, "pod-manifest-path", o.PodManifestPath, "Folder of manifests of static Pods, or one such file. It need not exist yet. Empty: none.")
	fs.DurationVar(&o.FileCheckFrequency.Duration, "file-check-frequency", o.FileCheckFrequency.Duration, "How often to read the manifests again although nothing seems to have changed.")
	fs.StringVar(&o.ManifestURL, "manifest-url", o.ManifestURL, "Web address of more manifests. Empty: none.")
	fs.StringToStringVar(&o.ManifestURLHeader, "manifest-url-header", o.ManifestURLHeader, "Headers to ask it with: NAME=VALUE,…")
	fs.DurationVar(&o.HTTPCheckFrequency.Duration, "http-check-frequency", o.HTTPCheckFrequency.Duration, "How often to ask it.")
}

func (o *Options) validateStatic() []error {
	var problems []error
	if p := o.PodManifestPath; p != "" && !filepath.IsAbs(p) {
		problems = append(problems, fmt.Errorf("--pod-manifest-path: %q is not an absolute path", p))
	}
	if u, err := url.Parse(o.ManifestURL); o.ManifestURL != "" && (err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Host == "") {
		problems = append(problems, fmt.Errorf("--manifest-url: %q is not a web address, such as https://example.com/pods.yaml", o.ManifestURL))
	}
	if len(o.ManifestURLHeader) > 0 && o.ManifestURL == "" {
		problems = append(problems, fmt.Errorf("--manifest-url-header: there is no --manifest-url to ask with it"))
	}
	for flag, every := range map[string]time.Duration{
		"file-check-frequency": o.FileCheckFrequency.Duration, "http-check-frequency": o.HTTPCheckFrequency.Duration,
	} {
		if every < minimumCheck {
			problems = append(problems, fmt.Errorf("--%s: %v: must be at least %v", flag, every, minimumCheck))
		}
	}
	if !o.Agent && (o.PodManifestPath != "" || o.ManifestURL != "") {
		problems = append(problems, fmt.Errorf("--pod-manifest-path, --manifest-url: static Pods need the agent, which --agent=false switches off"))
	}
	return problems
}
