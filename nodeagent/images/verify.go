package images

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Verification says for which images that are here already a Pod has to show the registry
// that it may use them; the values are upstream's.
type Verification string

// The values of Verification.
const (
	NeverVerify                  Verification = "NeverVerify"
	NeverVerifyPreloadedImages   Verification = "NeverVerifyPreloadedImages"
	NeverVerifyAllowlistedImages Verification = "NeverVerifyAllowlistedImages"
	AlwaysVerify                 Verification = "AlwaysVerify"
)

// Validate says what is wrong with a Verification and its list of images.
func (v Verification) Validate(allowed []string) error {
	all := []Verification{NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify}
	if !slices.Contains(all, v) {
		return fmt.Errorf("%q is none of %v", v, all)
	}
	if v != NeverVerifyAllowlistedImages && len(allowed) > 0 {
		return fmt.Errorf("a list of images goes with %s only", NeverVerifyAllowlistedImages)
	}
	for _, pattern := range allowed {
		if err := checkPattern(pattern); err != nil {
			return err
		}
	}
	return nil
}

// checkPattern accepts a repository, or a folder of repositories with /* at its end.
func checkPattern(pattern string) error {
	name, isFolder := strings.CutSuffix(pattern, "/*")
	if isFolder && !strings.Contains(name, "/") { // a registry is a folder too
		name += "/any"
	}
	named, err := reference.ParseNamed(name)
	if err != nil || !reference.IsNameOnly(named) {
		return fmt.Errorf("image pattern %q: must be a repository with its registry, such as registry.example/team/app, and may end in /*", pattern)
	}
	return nil
}

// needed says whether a Pod has to show its credentials for an image that is here.
func (v Verification) needed(repository string, pulledHere bool, allowed []string) bool {
	switch v {
	case NeverVerify:
		return false
	case NeverVerifyPreloadedImages:
		return pulledHere
	case NeverVerifyAllowlistedImages:
		return !slices.ContainsFunc(allowed, func(pattern string) bool {
			folder, isFolder := strings.CutSuffix(pattern, "*")
			return pattern == repository || isFolder && strings.HasPrefix(repository, folder)
		})
	default:
		return true
	}
}

// pruneAge is how long notes of pulls are left alone: a list of images may be older.
const pruneAge = time.Hour

// Prune forgets who may use images that are not here any more.
func (m *Manager) Prune(present []runtime.StoredImage) error {
	if m.Records == nil {
		return nil
	}
	return m.Records.Prune(present, m.clock.Now().Add(-pruneAge))
}

// mayUse says whether the Pod may use an image that is here without asking the registry:
// the registry has given it to everybody, or to somebody with one of the Pod's Secrets.
// What cannot be read counts as no.
func (m *Manager) mayUse(ctx context.Context, request Request, named reference.Named, image runtime.Image) bool {
	if m.Records == nil {
		return true
	}
	log := klog.FromContext(ctx).WithValues("image", request.Image)
	found, pulledHere, err := m.Records.find(image.ID, named.String())
	if err != nil {
		log.Error(err, "Cannot read who may use an image, the registry is asked")
		return false
	}
	if !m.Verification.needed(named.Name(), pulledHere, m.Preloaded) {
		return true
	}
	if found == nil {
		return false
	}
	may, known := found.Repositories[named.Name()]
	if !known || !may.Everybody && len(may.Secrets) == 0 {
		return false
	}
	shown, ok := may.admits(request.credentialsFor(named))
	if ok && shown != nil { // the Secret counts from now on as it is
		if err := m.Records.pulled(image.ID, named.Name(), shown); err != nil {
			log.Error(err, "Cannot note who may use an image")
		}
	}
	return ok
}
