package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

// Creation is how fast a controller makes Pods when nothing else slows it down.
type Creation struct {
	Pods int `json:"pods"`
	// Seconds is from sending the creation of the ReplicationController until a watch
	// has shown the last Pod.
	Seconds float64 `json:"seconds"`
}

const unplaced = "unplaced"

// createOnly makes Pods for a node that there is not, and takes them away again.
func (w *workload) createOnly(ctx context.Context, into *Creation) error {
	controller, err := w.controller(unplaced, into.Pods)
	if err != nil {
		return err
	}
	nowhere := map[string]string{"no-such": "node"}
	if err := unstructured.SetNestedStringMap(controller.Object, nowhere, "spec", "template", "spec", "nodeSelector"); err != nil {
		return err
	}
	var clock time.Time
	seen := 0
	create := func() error {
		clock = time.Now()
		_, err := w.controllers().Create(ctx, controller, metav1.CreateOptions{})
		return err
	}
	err = follow(ctx, w.pods(), create, func(event watch.EventType, _ *corev1.Pod) bool {
		if event == watch.Added {
			seen++
		}
		return seen == into.Pods
	})
	if err != nil {
		return fmt.Errorf("create %d Pods (%d are there): %w", into.Pods, seen, err)
	}
	into.Seconds = time.Since(clock).Seconds()
	gone := 0
	remove := func() error {
		background := metav1.DeletePropagationBackground
		return w.controllers().Delete(ctx, unplaced, metav1.DeleteOptions{PropagationPolicy: &background})
	}
	err = follow(ctx, w.pods(), remove, func(event watch.EventType, _ *corev1.Pod) bool {
		if event == watch.Deleted {
			gone++
		}
		return gone == into.Pods
	})
	if err != nil {
		return fmt.Errorf("take %d Pods away (%d are gone): %w", into.Pods, gone, err)
	}
	return nil
}
