package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

const tableHeader = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

// TestColumnsOfEveryKindAreTheAPIServersOwn asks the API server for its built-in kind of
// the same name.
func TestColumnsOfEveryKindAreTheAPIServersOwn(t *testing.T) {
	f := start(t)
	for _, row := range table.Keelson().Rows() {
		t.Run(row.Kind, func(t *testing.T) {
			var ours metav1.Table
			env.Eventually(t, func() string { // the storage of a CRD takes a moment
				got := f.do(t, "GET", listPath(row.Upstream), "", "Accept: "+tableHeader)
				if err := json.Unmarshal(got.body, &ours); err != nil || ours.Kind != "Table" {
					return fmt.Sprintf("%d %s", got.code, got.body)
				}
				return ""
			})
			if diff := cmp.Diff(columnsOf(stockTable(t, row.Upstream)), columnsOf(&ours)); diff != "" {
				t.Errorf("columns (-upstream +ours):\n%s", diff)
			}
		})
	}
}

func listPath(resource schema.GroupVersionResource) string {
	root := path.Join("/apis", resource.Group)
	if resource.Group == "" {
		root = "/api"
	}
	return path.Join(root, resource.Version, resource.Resource)
}

// stockTable is what the API server itself, without a gateway, says of its built-in kind.
func stockTable(t *testing.T, resource schema.GroupVersionResource) *metav1.Table {
	t.Helper()
	body := askDirectly(t, listPath(resource), tableHeader)
	stock := &metav1.Table{}
	if err := json.Unmarshal(body, stock); err != nil || stock.Kind != "Table" {
		t.Fatalf("%v %s", err, body)
	}
	return stock
}

// askDirectly reads from the API server, past the gateway.
func askDirectly(t *testing.T, path, accept string) []byte {
	t.Helper()
	client, err := rest.HTTPClientFor(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	base, _, err := rest.DefaultServerUrlFor(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base.JoinPath(path).String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s", response.Status, err, body)
	}
	return body
}

func columnsOf(t *metav1.Table) []string {
	var columns []string
	for _, c := range t.ColumnDefinitions {
		columns = append(columns, fmt.Sprintf("%s, priority %d", c.Name, c.Priority))
	}
	return columns
}

// TestTheDurationOfARunningJobGoesOn: what is stored is its start.
func TestTheDurationOfARunningJobGoesOn(t *testing.T) {
	f := start(t)
	job := builders.MakeJob("running").Namespace(f.namespace).Obj()
	if err := f.crs.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	job.Status.StartTime = new(metav1.NewTime(time.Now().Add(-25 * time.Hour)))
	job.Status.Summary = summary.Job(job)
	if err := f.crs.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	got := f.do(t, "GET", "/apis/batch/v1/namespaces/"+f.namespace+"/jobs", "", "Accept: "+tableHeader)
	var jobs metav1.Table
	if err := json.Unmarshal(got.body, &jobs); err != nil || len(jobs.Rows) != 1 {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if diff := cmp.Diff([]any{"running", "Running", "0/1", "25h"}, jobs.Rows[0].Cells[:4]); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
}
