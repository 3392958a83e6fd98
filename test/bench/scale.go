package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Scale are the times of many Pods at once.
type Scale struct {
	Pods int `json:"pods"`
	// AllReady is from sending the creation of the ReplicationController until its
	// status counts every Pod ready.
	AllReady float64 `json:"allReadySeconds"`
	// Created and Bound are until the last Pod existed and had a node.
	Created float64 `json:"lastCreatedSeconds"`
	Bound   float64 `json:"lastBoundSeconds"`
	// Gone is from sending the deletion until no Pod is left.
	Gone float64 `json:"goneSeconds"`
}

const controllerName = "many"

// scaleUp applies a ReplicationController and waits until it is complete.
func (w *workload) scaleUp(ctx context.Context, into *Scale) error {
	controller, err := w.controller(controllerName, into.Pods)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var clock time.Time
	watching, podsDone := make(chan struct{}), make(chan error, 1)
	created, bound := map[string]bool{}, map[string]bool{}
	go func() {
		ready := func() error { close(watching); return nil }
		podsDone <- follow(ctx, w.pods(), ready, func(_ watch.EventType, pod *corev1.Pod) bool {
			if !created[pod.Name] {
				created[pod.Name], into.Created = true, time.Since(clock).Seconds()
			}
			if !bound[pod.Name] && pod.Spec.NodeName != "" {
				bound[pod.Name], into.Bound = true, time.Since(clock).Seconds()
			}
			return len(bound) == into.Pods
		})
	}()
	create := func() error {
		select {
		case <-watching:
		case err := <-podsDone:
			return errors.Join(errors.New("watch Pods"), err)
		}
		clock = time.Now()
		_, err := w.controllers().Create(ctx, controller, metav1.CreateOptions{})
		return err
	}
	err = follow(ctx, w.controllers(), create, func(_ watch.EventType, rc *corev1.ReplicationController) bool {
		return int(rc.Status.ReadyReplicas) == into.Pods
	})
	if err != nil {
		return fmt.Errorf("ReplicationController of %d Pods: %w", into.Pods, err)
	}
	into.AllReady = time.Since(clock).Seconds()
	return <-podsDone
}

// scaleDown deletes it and waits until the last Pod is gone.
func (w *workload) scaleDown(ctx context.Context, into *Scale) error {
	var clock time.Time
	remove := func() error {
		clock = time.Now()
		background := metav1.DeletePropagationBackground
		return w.controllers().Delete(ctx, controllerName, metav1.DeleteOptions{PropagationPolicy: &background})
	}
	gone := 0
	err := follow(ctx, w.pods(), remove, func(event watch.EventType, _ *corev1.Pod) bool {
		if event == watch.Deleted {
			gone++
		}
		return gone == into.Pods
	})
	if err != nil {
		return fmt.Errorf("end %d Pods (%d are gone): %w", into.Pods, gone, err)
	}
	into.Gone = time.Since(clock).Seconds()
	return nil
}
