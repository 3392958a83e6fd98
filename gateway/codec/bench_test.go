package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/keelson-dev/keelson/gateway/table"
)

// storedPods is a list as the API server answers it, 3.2 KB a Pod.
func storedPods(b *testing.B, count int) []byte {
	b.Helper()
	pod := wantPod()
	pod.APIVersion = "core.keelson.dev/v1"
	for i := range 20 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", i), Value: "something of a usual length, as values of variables are, and then some more of it to fill the place"})
	}
	text, err := json.Marshal(pod)
	if err != nil {
		b.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"name":"a"`), []byte(`"name":"a","finalizers":["keelson.dev/pod"]`), 1)
	items := bytes.Repeat(append(text, ','), count)
	return fmt.Appendf(nil, `{"apiVersion":"core.keelson.dev/v1","items":[%s],"kind":"PodList","metadata":{"resourceVersion":"7"}}`, items[:len(items)-1])
}

// sink is a client that reads as fast as it is written to.
type sink struct {
	header http.Header
	size   int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { s.size += len(p); return len(p), nil }

// BenchmarkWriteAnswer writes lists of Pods in each format. cpuMB/s is the size of the
// API server's answer by processor time.
func BenchmarkWriteAnswer(b *testing.B) {
	row, _ := table.Keelson().Upstream(corev1.SchemeGroupVersion.WithResource("pods"))
	for _, count := range []int{1000, 5000} {
		list := storedPods(b, count)
		for name, test := range map[string]struct{ mediaType, encoding string }{
			"JSON":          {runtime.ContentTypeJSON, ""},
			"JSON and gzip": {runtime.ContentTypeJSON, "gzip"},
			"protobuf":      {runtime.ContentTypeProtobuf, ""},
		} {
			b.Run(fmt.Sprint(name, " ", count), func(b *testing.B) {
				c, r := newCodec(), get("", "list")
				r.Header.Set("Accept-Encoding", test.encoding)
				b.ReportAllocs()
				begin := processorTime(b)
				for b.Loop() {
					answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(list))}
					if err := c.WriteAnswer(&sink{header: http.Header{}}, r, Format{MediaType: test.mediaType}, row, answer); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(list))*float64(b.N)/1e6/(processorTime(b)-begin).Seconds(), "cpuMB/s")
			})
		}
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
