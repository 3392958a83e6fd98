// Package rollingupdate replaces the Pods of one ReplicationController by those of
// another, step by step, as `kubectl rolling-update` did before there were Deployments:
// from outside, by setting two sizes.
//
// It must never touch Pods. What it needs to go on after an interruption stands in
// annotations of the two objects, written before the first Pod moves: run again, it
// continues; with Rollback, it goes back. plan.go decides, this file does.
package rollingupdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/clock"
)

// pollInterval is how often the two objects are read while Pods are waited for.
const pollInterval = 500 * time.Millisecond

// Options say what to update, and how.
type Options struct {
	// API holds the ReplicationControllers of the namespace, in the view of Manifest.
	API API
	// Old is the name of the one that is replaced.
	Old string
	// Manifest is the new one, as Manifest has read it.
	Manifest *unstructured.Unstructured
	// UpdatePeriod is the wait between growing one and shrinking the other.
	UpdatePeriod time.Duration
	// Timeout is how long nothing may happen before the update gives up; it can be
	// continued.
	Timeout time.Duration
	// Rollback goes back to the old one.
	Rollback bool
	// Out gets the progress.
	Out io.Writer
	// Clock tells the time; nil means the real one.
	Clock clock.Clock
}

// update is one run.
type update struct {
	Options
	// from and to are read again before every step.
	from, to          *unstructured.Unstructured
	original, desired int32
}

// Run updates, and returns when the old ReplicationController is gone. An error says
// how to go on.
func Run(ctx context.Context, o Options) error {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	u := &update{Options: o}
	finished, err := u.prepare(ctx)
	if err != nil || finished {
		return err
	}
	u.sayf("%s", u.state().Plan())
	if err := u.steps(ctx); err != nil {
		return fmt.Errorf("%w\nNothing is lost: run the same command again to continue, or with --rollback to go back", err)
	}
	u.sayf("Update succeeded. Deleting %s", u.from.GetName())
	return u.finish(ctx)
}

func (u *update) sayf(format string, args ...any) { fmt.Fprintf(u.Out, format+"\n", args...) }

func (u *update) state() State {
	return State{From: sideOf(u.from), To: sideOf(u.to), Original: u.original, Desired: u.desired}
}

// prepare finds both sides, whatever an earlier run has left, and writes down the sizes.
func (u *update) prepare(ctx context.Context) (finished bool, err error) {
	partner, err := find(ctx, u.API, u.Manifest.GetName())
	if err != nil {
		return false, err
	}
	old, err := get(ctx, u.API, u.Old)
	if apierrors.IsNotFound(err) && isPartner(partner, u.Old) && !u.Rollback {
		// The last run was interrupted when the old one was gone already.
		u.to = partner
		u.sayf("%s is gone: only the annotations of %s are left to remove", u.Old, partner.GetName())
		return true, u.forget(ctx)
	}
	if err != nil {
		return false, err
	}
	if err := checkPair(old, u.Manifest); err != nil {
		return false, err
	}
	if u.Rollback {
		return false, u.prepareRollback(ctx, old, partner)
	}
	return false, u.prepareUpdate(ctx, old, partner)
}

func isPartner(rc *unstructured.Unstructured, of string) bool {
	return rc != nil && rc.GetAnnotations()[annotationPartner] == of
}

func (u *update) prepareUpdate(ctx context.Context, old, partner *unstructured.Unstructured) (err error) {
	if partner != nil && !isPartner(partner, old.GetName()) {
		return fmt.Errorf("ReplicationController %s exists and is not part of an update of %s: delete it, or give the new one another name",
			partner.GetName(), old.GetName())
	}
	// What stands in the old one counts only while there is an update.
	if u.from, u.original, err = u.noteOriginal(ctx, old, partner != nil); err != nil {
		return err
	}
	if partner == nil {
		if u.to, err = u.create(ctx); err != nil {
			return err
		}
		u.sayf("Created %s", u.to.GetName())
	} else {
		u.to = partner
		u.sayf("Found existing update in progress (%s), resuming.", partner.GetName())
		u.sayf("Continuing update with existing controller %s.", partner.GetName())
	}
	desired, ok, err := noted(u.to, annotationDesired)
	if err != nil {
		return err
	}
	if u.desired = desired; !ok {
		u.desired = u.wantedSize()
	}
	return nil
}

// wantedSize is that of the manifest, else that of the old one.
func (u *update) wantedSize() int32 {
	if n, ok, _ := unstructured.NestedInt64(u.Manifest.Object, "spec", "replicas"); ok {
		return int32(n)
	}
	return u.original
}

func (u *update) create(ctx context.Context) (*unstructured.Unstructured, error) {
	rc := u.Manifest.DeepCopy()
	annotations := rc.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationPartner] = u.Old
	annotations[annotationDesired] = strconv.Itoa(int(u.wantedSize()))
	rc.SetAnnotations(annotations)
	if err := unstructured.SetNestedField(rc.Object, int64(0), "spec", "replicas"); err != nil {
		return nil, err
	}
	created, err := u.API.Create(ctx, rc, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create ReplicationController %s: %w", rc.GetName(), err)
	}
	return created, nil
}

func (u *update) prepareRollback(ctx context.Context, old, partner *unstructured.Unstructured) (err error) {
	if !isPartner(partner, old.GetName()) {
		return fmt.Errorf("there is no update of %s to %s in progress that could be rolled back", old.GetName(), u.Manifest.GetName())
	}
	original, ok, err := noted(old, annotationOriginal)
	if err != nil {
		return err
	}
	if u.desired = original; !ok {
		u.desired = sizeOf(old)
	}
	u.to = old
	u.sayf("Setting %q replicas to %d", old.GetName(), u.desired)
	u.sayf("Continuing update with existing controller %s.", old.GetName())
	u.from, u.original, err = u.noteOriginal(ctx, partner, true)
	return err
}

// noteOriginal writes down the size that rc has before the first Pod goes. With keep,
// what was written before stays.
func (u *update) noteOriginal(ctx context.Context, rc *unstructured.Unstructured, keep bool) (*unstructured.Unstructured, int32, error) {
	if keep {
		n, ok, err := noted(rc, annotationOriginal)
		if err != nil || ok {
			return rc, n, err
		}
	}
	n := sizeOf(rc)
	rc, err := annotate(ctx, u.API, rc, map[string]any{annotationOriginal: strconv.Itoa(int(n))})
	return rc, n, err
}

func (u *update) steps(ctx context.Context) error {
	since := u.Clock.Now()
	for {
		step := Next(u.state())
		switch step.Action {
		case Done:
			return nil
		case Wait:
			if u.Clock.Since(since) > u.Timeout {
				return fmt.Errorf("after %s (--timeout) still %s", u.Timeout, step.Reason)
			}
			if err := u.sleep(ctx, pollInterval); err != nil {
				return err
			}
		default:
			if err := u.scale(ctx, step); err != nil {
				return err
			}
			since = u.Clock.Now()
		}
		if err := u.read(ctx); err != nil {
			return err
		}
	}
}

func (u *update) scale(ctx context.Context, step Step) error {
	rc := u.to
	if step.Action == ScaleFrom {
		rc = u.from
	}
	direction := "up"
	if step.Replicas < sizeOf(rc) {
		direction = "down"
	}
	u.sayf("Scaling %s %s to %d", rc.GetName(), direction, step.Replicas)
	if err := scale(ctx, u.API, rc, step.Replicas); err != nil {
		return err
	}
	if step.Action == ScaleFrom {
		return nil
	}
	return u.sleep(ctx, u.UpdatePeriod)
}

// read reads both sides again. A side that was replaced by another of its name is an
// error: this update is not about that one.
func (u *update) read(ctx context.Context) error {
	for _, rc := range []**unstructured.Unstructured{&u.from, &u.to} {
		fresh, err := get(ctx, u.API, (*rc).GetName())
		if err != nil {
			return err
		}
		if fresh.GetUID() != (*rc).GetUID() {
			return fmt.Errorf("ReplicationController %s was deleted and made again during the update", fresh.GetName())
		}
		*rc = fresh
	}
	return nil
}

func (u *update) sleep(ctx context.Context, d time.Duration) error {
	timer := u.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// finish deletes the side that is empty, then takes the annotations off the other: in
// this order an interruption in between is recognised.
func (u *update) finish(ctx context.Context) error {
	uid := u.from.GetUID()
	// Said explicitly: the plain kind's default is to leave Pods behind.
	background := metav1.DeletePropagationBackground
	err := u.API.Delete(ctx, u.from.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ReplicationController %s: %w", u.from.GetName(), err)
	}
	if err := u.forget(ctx); err != nil {
		return err
	}
	if u.Rollback {
		u.sayf("replicationcontroller %q rolled back from %q", u.to.GetName(), u.from.GetName())
	} else {
		u.sayf("replicationcontroller %q rolling updated to %q", u.from.GetName(), u.to.GetName())
	}
	return nil
}

func (u *update) forget(ctx context.Context) error {
	_, err := annotate(ctx, u.API, u.to, map[string]any{annotationPartner: nil, annotationDesired: nil, annotationOriginal: nil})
	return err
}
