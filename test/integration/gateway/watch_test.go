package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

func TestWatchesSeeWhatHappens(t *testing.T) {
	f := start(t)
	for name, clients := range map[string]*kubernetes.Clientset{"json": f.json, "protobuf": f.protobuf} {
		t.Run(name, func(t *testing.T) {
			pods := clients.CoreV1().Pods(f.namespace)
			list, err := pods.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion, FieldSelector: "spec.nodeName=node-1,metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			f.create(t, makePod(name, onNode))
			f.create(t, makePod(name+"-unseen"))
			if _, err := pods.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := pods.Delete(t.Context(), name, *metav1.NewDeleteOptions(0)); err != nil {
				t.Fatal(err)
			}
			var got []watch.EventType
			for event := range w.ResultChan() {
				pod, ok := event.Object.(*corev1.Pod)
				if !ok || pod.Name != name || slices.Contains(pod.Finalizers, "keelson.dev/pod") {
					t.Fatalf("event %s %+v", event.Type, event.Object)
				}
				if got = append(got, event.Type); event.Type == watch.Deleted {
					break
				}
			}
			if want := []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Deleted}; !cmp.Equal(got, want) {
				t.Errorf("events are %v, want %v", got, want)
			}
		})
	}
}

func TestWatchesBeginWithWhatIsThere(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := f.json.CoreV1().Pods(f.namespace).Watch(ctx, metav1.ListOptions{
		SendInitialEvents: new(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var got []string
	for event := range w.ResultChan() {
		pod := event.Object.(*corev1.Pod)
		got = append(got, string(event.Type)+" "+pod.Name)
		if event.Type == watch.Bookmark {
			if pod.Annotations[metav1.InitialEventsAnnotationKey] != "true" || pod.ResourceVersion == "" {
				t.Errorf("the bookmark is %+v", pod.ObjectMeta)
			}
			break
		}
	}
	if want := []string{"ADDED a", "BOOKMARK "}; !cmp.Equal(got, want) {
		t.Errorf("events are %q, want %q", got, want)
	}
}

func TestInformersSync(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a"))
	factory := informers.NewSharedInformerFactoryWithOptions(f.protobuf, 0, informers.WithNamespace(f.namespace))
	informer := factory.Core().V1().Pods().Informer()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("the informer does not sync")
	}
	f.create(t, makePod("b"))
	for {
		if _, ok, _ := informer.GetStore().GetByKey(f.namespace + "/b"); ok {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the informer knows %v", informer.GetStore().ListKeys())
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	factory.Shutdown()
}

func TestWatchErrorsAreInUpstreamsWords(t *testing.T) {
	f := start(t)
	old := f.do(t, "GET", f.pods()+"?watch=1&resourceVersion=1&timeoutSeconds=5", "")
	var frame struct {
		Type   string
		Object metav1.Status
	}
	if err := json.Unmarshal(old.body, &frame); err != nil || frame.Type != "ERROR" || frame.Object.Code != http.StatusGone || frame.Object.Reason != metav1.StatusReasonExpired {
		t.Errorf("a version of long ago: %d %s", old.code, old.body)
	}
}

func TestLegacyWatchPaths(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a"))
	f.create(t, makePod("b"))
	for path, want := range map[string]int{"/api/v1/watch/namespaces/" + f.namespace + "/pods": 2, "/api/v1/watch/namespaces/" + f.namespace + "/pods/b": 1} {
		got := f.do(t, "GET", path+"?timeoutSeconds=1", "")
		if got.code != http.StatusOK || strings.Count(string(got.body), `"ADDED"`) != want {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
}

func TestTablesHaveUpstreamsColumns(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a", onNode))
	const asTable = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	wide := map[string][]string{
		"pods":                   {"Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"},
		"services":               {"Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"},
		"replicationcontrollers": {"Name", "Desired", "Current", "Ready", "Age", "Containers", "Images", "Selector"},
		"endpoints":              {"Name", "Endpoints", "Age"},
	}
	for resource, want := range wide {
		got := f.do(t, "GET", "/api/v1/namespaces/"+f.namespace+"/"+resource, "", asTable)
		var table metav1.Table
		if err := json.Unmarshal(got.body, &table); err != nil || table.Kind != "Table" {
			t.Fatalf("%s: %d %s", resource, got.code, got.body)
		}
		var columns []string
		for _, column := range table.ColumnDefinitions {
			columns = append(columns, column.Name)
		}
		if diff := cmp.Diff(want, columns); diff != "" {
			t.Errorf("%s (-want +got):\n%s", resource, diff)
		}
		if resource == "pods" && (len(table.Rows) != 1 || table.Rows[0].Cells[0] != "a" || strings.Contains(string(table.Rows[0].Object.Raw), "keelson")) {
			t.Errorf("rows are %s", got.body)
		}
	}
}

func TestPartialMetadata(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a", onNode))
	got := f.do(t, "GET", f.pods(), "", "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	tree := got.tree(t)
	if tree["kind"] != "PartialObjectMetadataList" || tree["apiVersion"] != "meta.k8s.io/v1" || strings.Contains(string(got.body), "keelson") {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestWatchFramesComeAtOnce(t *testing.T) {
	f := start(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+f.pods()+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for _, name := range []string{"a", "b"} {
		f.create(t, makePod(name))
		select {
		case line := <-lines:
			if !strings.Contains(line, `"name":"`+name+`"`) {
				t.Errorf("line is %s", line)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no frame about %s", name)
		}
	}
}
