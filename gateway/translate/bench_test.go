package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runningPod is a Pod as a node leaves it, 3.8 KB in the API server's JSON.
func runningPod(i int) []byte {
	name := fmt.Sprintf("web-7d4b9c6f8d-%05d", i)
	tree := map[string]any{
		"apiVersion": "core.keelson.dev/v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": name, "generateName": "web-7d4b9c6f8d-", "namespace": "default", "uid": fmt.Sprintf("0f1e2d3c-4b5a-6978-8796-%012d", i),
			"resourceVersion": fmt.Sprint(100000 + i), "creationTimestamp": "2026-11-21T14:00:00Z", "generation": 1,
			"labels":      map[string]any{"app": "web", "pod-template-hash": "7d4b9c6f8d"},
			"annotations": map[string]any{"prometheus.io/scrape": "true"},
			"finalizers":  []any{"keelson.dev/pod"},
			"ownerReferences": []any{map[string]any{"apiVersion": "core.keelson.dev/v1", "kind": "ReplicationController", "name": "web-7d4b9c6f8d",
				"uid": "11111111-2222-3333-4444-555555555555", "controller": true, "blockOwnerDeletion": true}},
			"managedFields": []any{
				entry("keelson-manager", "Update", "", `{"f:metadata":{"f:annotations":{".":{},"f:prometheus.io/scrape":{}},"f:finalizers":{".":{},"v:\"keelson.dev/pod\"":{}},"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"11111111-2222-3333-4444-555555555555\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{".":{},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:nodeName":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}`),
				entry("keelson-node", "Update", "status", `{"f:status":{"f:conditions":{".":{},"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:podIPs":{},"f:startTime":{},"f:summary":{"f:ready":{},"f:restarts":{},"f:status":{}}}}`),
			},
		},
		"spec": map[string]any{
			"containers": []any{map[string]any{
				"name": "web", "image": "registry.example.com/team/web:v1.2.3", "imagePullPolicy": "IfNotPresent",
				"ports":                  []any{map[string]any{"containerPort": 80, "protocol": "TCP"}},
				"resources":              map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "128Mi"}},
				"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
				"volumeMounts": []any{map[string]any{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access-abcde", "readOnly": true}},
			}},
			"dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "nodeName": "node-1", "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
			"restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": map[string]any{}, "serviceAccount": "default", "serviceAccountName": "default",
			"terminationGracePeriodSeconds": 30,
			"volumes": []any{map[string]any{"name": "kube-api-access-abcde", "projected": map[string]any{"defaultMode": 420, "sources": []any{
				map[string]any{"serviceAccountToken": map[string]any{"expirationSeconds": 3607, "path": "token"}},
				map[string]any{"configMap": map[string]any{"items": []any{map[string]any{"key": "ca.crt", "path": "ca.crt"}}, "name": "kube-root-ca.crt"}},
			}}}},
		},
		"status": map[string]any{
			"phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.244.1.5", "podIPs": []any{map[string]any{"ip": "10.244.1.5"}}, "qosClass": "Burstable", "startTime": "2026-11-21T14:00:00Z",
			"conditions": []any{
				map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T14:00:05Z", "lastProbeTime": nil},
				map[string]any{"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-11-21T14:00:05Z", "lastProbeTime": nil},
			},
			"containerStatuses": []any{map[string]any{"containerID": "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "image": "registry.example.com/team/web:v1.2.3",
				"imageID": "registry.example.com/team/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "name": "web", "ready": true, "restartCount": 0, "started": true,
				"state": map[string]any{"running": map[string]any{"startedAt": "2026-11-21T14:00:04Z"}}, "lastState": map[string]any{}}},
			"summary": map[string]any{"ready": "1/1", "status": "Running", "restarts": 0},
		},
	}
	encoded, err := json.Marshal(tree)
	if err != nil {
		panic(err)
	}
	return encoded
}

func entry(manager, operation, subresource, fields string) map[string]any {
	e := map[string]any{"apiVersion": "core.keelson.dev/v1", "fieldsType": "FieldsV1", "fieldsV1": json.RawMessage(fields), "manager": manager, "operation": operation, "time": "2026-11-21T14:00:00Z"}
	if subresource != "" {
		e["subresource"] = subresource
	}
	return e
}

func podList(count int) []byte {
	var list bytes.Buffer
	list.WriteString(`{"apiVersion":"core.keelson.dev/v1","items":[`)
	for i := range count {
		if i > 0 {
			list.WriteByte(',')
		}
		list.Write(runningPod(i))
	}
	list.WriteString(`],"kind":"PodList","metadata":{"continue":"","resourceVersion":"123456"}}` + "\n")
	return list.Bytes()
}

// BenchmarkCopy translates lists of Pods.
func BenchmarkCopy(b *testing.B) {
	for _, count := range []int{1, 1000, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			list, t := podList(count), translator()
			b.SetBytes(int64(len(list)))
			b.ReportAllocs()
			measureCPU(b, len(list))
			for b.Loop() {
				if err := t.Copy(io.Discard, bytes.NewReader(list)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendObject translates one Pod, without and with a deletion under way.
func BenchmarkAppendObject(b *testing.B) {
	pod := runningPod(0)
	for name, pod := range map[string][]byte{
		"running":  pod,
		"deleting": bytes.Replace(pod, []byte(`"generation":1`), []byte(`"generation":1,"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-11-21T14:10:00Z"`), 1),
	} {
		b.Run(name, func(b *testing.B) {
			t := translator()
			var out []byte
			b.SetBytes(int64(len(pod)))
			b.ReportAllocs()
			measureCPU(b, len(pod))
			for b.Loop() {
				var err error
				if out, err = t.AppendObject(out[:0], pod); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWatch translates frames.
func BenchmarkWatch(b *testing.B) {
	const frames = 1000
	stream := []byte(strings.Repeat(`{"type":"MODIFIED","object":`+string(runningPod(0))+"}\n", frames))
	t := translator()
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	measureCPU(b, len(stream))
	for b.Loop() {
		for _, err := range t.WatchEvents(bytes.NewReader(stream)) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// measureCPU reports megabytes per second of processor time, which other work on the
// machine does not change as it changes the wall clock.
func measureCPU(b *testing.B, bytes int) {
	begin := processorTime(b)
	b.Cleanup(func() {
		b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(processorTime(b)-begin).Seconds(), "cpuMB/s")
	})
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
