package translate

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	kjson "sigs.k8s.io/json"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/table"
)

// ToUpstream turns a stored object into the form that clients see, in place; it is the
// tree form of AppendObject, for read-modify-write.
func (t *Translator) ToUpstream(stored map[string]any) error {
	shown, err := t.shown(stored)
	if err != nil {
		return err
	}
	clear(stored)
	maps.Copy(stored, shown)
	return nil
}

func (t *Translator) shown(stored map[string]any) (map[string]any, error) {
	encoded, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode a stored object: %w", err)
	}
	shown := make(map[string]any, len(stored))
	if err := kjson.UnmarshalCaseSensitivePreserveInts(t.appendAny(nil, encoded, answer), &shown); err != nil {
		return nil, fmt.Errorf("decode a translated object: %w", err)
	}
	return shown, nil
}

// Restore completes an object in the stored form (after ToStored) with what clients do
// not see of the object that it replaces: the finalizer and the annotations of a Pod,
// status.summary, their managedFields, and the deletion fields and observed generations,
// which clients see changed. stored is what the API server answered, untouched; its values may become
// part of changed.
func (t *Translator) Restore(row table.Row, stored, changed map[string]any) error {
	restoreSummary(stored, changed)
	before, _ := stored["metadata"].(map[string]any)
	if before == nil {
		return nil
	}
	after, ok := changed["metadata"].(map[string]any)
	if !ok {
		after = map[string]any{}
		changed["metadata"] = after
	}
	if err := t.restoreManagedFields(row, before, after); err != nil {
		return err
	}
	if !isPod(row) {
		return nil
	}
	restoreFinalizer(before, after)
	restoreAnnotations(before, after)
	if generation, ok := before["generation"]; ok {
		after["generation"] = generation // whatever a client sends, the API server counts
	}
	if err := restoreStatus(stored, changed); err != nil {
		return err
	}
	return t.restoreDeletion(stored, before, after)
}

// restoreSummary also keeps the status that Endpoints have for their summary alone.
func restoreSummary(stored, changed map[string]any) {
	status, _ := stored["status"].(map[string]any)
	summary, ok := status["summary"]
	if !ok {
		return
	}
	after, ok := changed["status"].(map[string]any)
	if !ok {
		after = map[string]any{}
		changed["status"] = after
	}
	after["summary"] = summary
}

func restoreFinalizer(before, after map[string]any) {
	had, _ := before["finalizers"].([]any)
	at := slices.Index(had, any(keelsonv1.PodFinalizer))
	if at < 0 {
		return
	}
	finalizers, _ := after["finalizers"].([]any)
	if !slices.Contains(finalizers, any(keelsonv1.PodFinalizer)) {
		after["finalizers"] = slices.Insert(slices.Clone(finalizers), min(at, len(finalizers)), any(keelsonv1.PodFinalizer))
	}
}

func restoreAnnotations(before, after map[string]any) {
	had, _ := before["annotations"].(map[string]any)
	for _, name := range []string{keelsonv1.DeletionGracePeriodAnnotation, keelsonv1.GenerationBeforeBindingAnnotation} {
		value, ok := had[name]
		if !ok {
			continue
		}
		annotations, _ := after["annotations"].(map[string]any)
		if annotations == nil {
			annotations = map[string]any{}
			after["annotations"] = annotations
		}
		annotations[name] = value
	}
}

// restoreStatus counts the generations that a Pod's status observed as they are stored.
func restoreStatus(stored, changed map[string]any) error {
	metadata, _ := stored["metadata"].(map[string]any)
	before, _ := stored["status"].(map[string]any)
	after, _ := changed["status"].(map[string]any)
	if after == nil {
		return nil
	}
	return restoreObserved(metadata, before, after)
}

// restoreDeletion puts the stored deletion fields back where the client left what it
// saw. A value of its own stays, and the API server refuses it as immutable.
func (t *Translator) restoreDeletion(stored, before, after map[string]any) error {
	if before["deletionTimestamp"] == nil {
		return nil
	}
	shown, err := t.shown(stored)
	if err != nil {
		return err
	}
	seen, _ := shown["metadata"].(map[string]any)
	for _, name := range []string{"deletionTimestamp", "deletionGracePeriodSeconds"} {
		if value, ok := after[name]; ok && reflect.DeepEqual(value, seen[name]) {
			after[name] = before[name]
			if before[name] == nil {
				delete(after, name)
			}
		}
	}
	return nil
}

// restoreManagedFields replaces the entries that the client left as it saw them by the
// stored ones, and adds those that it did not see. An update that resets the list (no
// list, or one empty entry) stays one.
func (t *Translator) restoreManagedFields(row table.Row, before, after map[string]any) error {
	had, _ := before["managedFields"].([]any)
	have, _ := after["managedFields"].([]any)
	if len(had) == 0 || len(have) == 0 || isReset(have) {
		return nil
	}
	have = slices.Clone(have)
	var unseen []any
	for _, entry := range had {
		seen, err := t.seenEntry(row, entry)
		if err != nil {
			return err
		}
		if seen == nil {
			unseen = append(unseen, entry)
			continue
		}
		if i := slices.IndexFunc(have, func(e any) bool { return reflect.DeepEqual(e, seen) }); i >= 0 {
			have[i] = entry
		}
	}
	after["managedFields"] = append(have, unseen...)
	return nil
}

func isReset(entries []any) bool {
	entry, ok := entries[0].(map[string]any)
	return ok && len(entries) == 1 && len(entry) == 0
}

// seenEntry is an entry of managedFields as a client sends it back, after ToStored;
// nil if it is not shown.
func (t *Translator) seenEntry(row table.Row, entry any) (any, error) {
	encoded, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("encode an entry of managedFields: %w", err)
	}
	encoded, kept := t.appendManagedFieldsEntry(nil, encoded)
	if !kept {
		return nil, nil
	}
	var seen any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &seen); err != nil {
		return nil, fmt.Errorf("decode an entry of managedFields: %w", err)
	}
	if seen, ok := seen.(map[string]any); ok && seen["apiVersion"] == row.Upstream.GroupVersion().String() {
		seen["apiVersion"] = row.Stored.GroupVersion().String()
	}
	return seen, nil
}
