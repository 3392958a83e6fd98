// Package images decides whether a container's image must be pulled, and pulls it:
// pull policies, back-off after failures, one download for all who wait for the same
// image, and upstream's reasons and texts for what a user reads.
//
// It never starts containers and writes nothing to the API: events are reported to the
// caller. It keeps nothing on disk; after a crash a failed pull is simply tried again
// without waiting for the rest of its back-off.
package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Reasons why a container waits for its image, as the kubelet's.
const (
	ReasonErrImagePull     = "ErrImagePull"
	ReasonImagePullBackOff = "ImagePullBackOff"
	ReasonErrNeverPull     = "ErrImageNeverPull"
	ReasonInvalidName      = "InvalidImageName"
	ReasonInspectError     = "ImageInspectError"
)

// Reasons of events, as the kubelet's.
const (
	EventPulling       = "Pulling"
	EventPulled        = "Pulled"
	EventFailed        = "Failed"
	EventBackOff       = "BackOff"
	EventNeverPull     = "ErrImageNeverPull"
	EventInspectFailed = "InspectFailed"
)

// Event is something to record about the Pod that asked.
type Event struct {
	// Type is corev1.EventTypeNormal or EventTypeWarning.
	Type, Reason, Message string
}

// Error says why a container waits for its image. Reason and Message belong into the
// container's waiting state.
type Error struct {
	Reason, Message string
	// RetryAt is when trying again makes sense.
	RetryAt time.Time
	cause   error
}

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Unwrap returns the runtime's error.
func (e *Error) Unwrap() error { return e.cause }

// Request asks for one container's image.
type Request struct {
	// Pod is who asks; back-off is counted per Pod and image, as upstream.
	Pod types.UID
	// Image is the reference as the Pod names it.
	Image string
	// Policy is the container's imagePullPolicy; empty means upstream's default for
	// the reference.
	Policy corev1.PullPolicy
	// Credentials returns what to ask the registry with, in order, for a repository such
	// as docker.io/library/busybox; nil means nothing.
	Credentials func(repository string) []runtime.Credential
}

// Options are what a Manager can be told; the zero value limits nothing and verifies
// nothing.
type Options struct {
	// Records keep who may use which image; nil: whoever is here may use what is here.
	Records *Records
	// Verification says for which images that counts, Preloaded are those of
	// NeverVerifyAllowlistedImages.
	Verification Verification
	Preloaded    []string
	// Limits bound what registries are asked.
	Limits Limits
}

// Manager answers requests. All methods may be called from many goroutines.
type Manager struct {
	// Options may be set before the first request.
	Options
	service runtime.ImageService
	clock   clock.PassiveClock
	backOff backOff
	flights flights
}

// NewManager returns a Manager that keeps images in service.
func NewManager(service runtime.ImageService, c clock.PassiveClock) *Manager {
	return &Manager{service: service, clock: c, backOff: backOff{failures: map[key]failure{}}, flights: flights{running: map[string]*flight{}}}
}

// Ensure returns the image once containers can use it. Report is called for each
// event, in order, before Ensure returns. The error is an *Error, or ctx's.
func (m *Manager) Ensure(ctx context.Context, request Request, report func(Event)) (runtime.Image, error) {
	image, err := m.ensure(ctx, request, report)
	var waiting *Error
	if errors.As(err, &waiting) {
		report(warning(EventFailed, "Error: "+waiting.Reason))
	}
	return image, err
}

func (m *Manager) ensure(ctx context.Context, request Request, report func(Event)) (runtime.Image, error) {
	named, err := reference.ParseDockerRef(request.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v", request.Image, request.Image, err)
		report(warning(EventInspectFailed, message))
		return runtime.Image{}, m.laterError(ReasonInvalidName, message, err)
	}
	local, err := m.service.Image(ctx, named.String())
	if err != nil {
		if ctx.Err() != nil {
			return runtime.Image{}, ctx.Err()
		}
		message := fmt.Sprintf("Failed to inspect image %q: %v", request.Image, err)
		report(warning(EventInspectFailed, message))
		return runtime.Image{}, m.laterError(ReasonInspectError, message, err)
	}
	decided := plan(request, named, local != nil)
	if decided == useLocal && !m.mayUse(ctx, request, named, *local) {
		decided = afterRefusal(request)
	}
	switch decided {
	case useLocal:
		report(normal(EventPulled, fmt.Sprintf("Container image %q already present on machine%s", request.Image, m.accessText())))
		return *local, nil
	case refuse:
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", request.Image)
		report(warning(EventNeverPull, message))
		return runtime.Image{}, m.laterError(ReasonErrNeverPull, message, nil)
	default:
		return m.pull(ctx, request, named, report)
	}
}

// laterError is for what no back-off is kept for.
func (m *Manager) laterError(reason, message string, cause error) *Error {
	return &Error{Reason: reason, Message: message, RetryAt: m.clock.Now().Add(firstDelay), cause: cause}
}

type decision string

const (
	useLocal decision = "use the local image"
	refuse   decision = "refuse"
	download decision = "pull"
)

// plan applies the pull policy. A digest names content: when it is here, asking the
// registry could only repeat it.
func plan(request Request, named reference.Named, present bool) decision {
	_, byDigest := named.(reference.Digested)
	policy := request.Policy
	if policy == "" {
		policy = DefaultPolicy(request.Image)
	}
	switch {
	case present && (policy != corev1.PullAlways || byDigest):
		return useLocal
	case policy == corev1.PullNever:
		return refuse
	default:
		return download
	}
}

// afterRefusal is what to do when the Pod has not shown that it may use an image that is
// here.
func afterRefusal(request Request) decision {
	if request.Policy == corev1.PullNever {
		return refuse
	}
	return download
}

// accessText is what upstream adds where access is looked at.
func (m *Manager) accessText() string {
	if m.Records == nil {
		return ""
	}
	return " and can be accessed by the pod"
}

// DefaultPolicy is imagePullPolicy of a container that names none: Always for the tag
// latest or no tag, else IfNotPresent.
func DefaultPolicy(image string) corev1.PullPolicy {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return corev1.PullIfNotPresent
	}
	if tagged, ok := named.(reference.Tagged); ok && tagged.Tag() == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func (m *Manager) pull(ctx context.Context, request Request, named reference.Named, report func(Event)) (runtime.Image, error) {
	k := key{request.Pod, request.Image}
	asked := m.clock.Now()
	if last, waiting := m.backOff.get(k, asked); waiting {
		message := fmt.Sprintf("Back-off pulling image %q", request.Image)
		report(normal(EventBackOff, message))
		return runtime.Image{}, &Error{
			Reason: ReasonImagePullBackOff, RetryAt: last.retryAt,
			Message: message + ": " + ReasonErrImagePull + ": " + last.message,
		}
	}
	report(normal(EventPulling, fmt.Sprintf("Pulling image %q", request.Image)))
	name, credentials := named.String(), request.credentialsFor(named)
	result, err := m.flights.join(ctx, flightKey(name, credentials), func(ctx context.Context) result {
		leave, err := m.Limits.enter(ctx)
		if err != nil {
			return result{err: err}
		}
		defer leave()
		started := m.clock.Now()
		image, err := m.recorded(ctx, named, credentials)
		return result{image: image, err: err, took: m.clock.Since(started)}
	})
	if err != nil {
		return runtime.Image{}, fmt.Errorf("wait for image %s: %w", name, err)
	}
	if result.err != nil {
		message := strings.TrimSpace(result.err.Error())
		report(warning(EventFailed, fmt.Sprintf("Failed to pull image %q: %s", request.Image, message)))
		retryAt := m.backOff.fail(k, m.clock.Now(), message)
		return runtime.Image{}, &Error{Reason: ReasonErrImagePull, Message: message, RetryAt: retryAt, cause: result.err}
	}
	m.backOff.succeed(k)
	report(normal(EventPulled, fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		request.Image, result.took.Truncate(time.Millisecond), m.clock.Since(asked).Truncate(time.Millisecond), result.image.Size)))
	return result.image, nil
}

// Forget drops what is kept of a Pod that has left the node.
func (m *Manager) Forget(pod types.UID) { m.backOff.forget(pod) }

func normal(reason, message string) Event { return Event{corev1.EventTypeNormal, reason, message} }

func warning(reason, message string) Event { return Event{corev1.EventTypeWarning, reason, message} }
