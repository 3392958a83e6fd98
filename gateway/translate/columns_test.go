package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const podColumns = `{"name":"Name","type":"string"},{"name":"Ready","type":"string"},{"name":"Restarts","type":"integer","priority":0},{"name":"Age","type":"date"}`

func podTable(definitions, rows string) string {
	return `{"kind":"Table","apiVersion":"meta.k8s.io/v1",` + definitions + `"rows":[` + rows + `]}`
}

func define(columns string) string { return `"columnDefinitions":[` + columns + `],` }

// TestRestartsOfAPod has what upstream's printer shows for the same Pods.
func TestRestartsOfAPod(t *testing.T) {
	stored := define(podColumns + `,{"name":"Last Restart","type":"date","priority":1}`)
	upstream := define(strings.Replace(podColumns, "integer", "string", 1))
	for name, tt := range map[string]struct{ stored, want string }{
		"a restart":                      {podTable(stored, `{"cells":["a","1/1",4,"2d","10s"]}`), podTable(upstream, `{"cells":["a","1/1","4 (10s ago)","2d"]}`)},
		"none":                           {podTable(stored, `{"cells":["a","1/1",0,"2d",null]},{"cells":["b",null,null,"2d",null]}`), podTable(upstream, `{"cells":["a","1/1","0","2d"]},{"cells":["b","<none>","0","2d"]}`)},
		"a restart without a date":       {podTable(stored, `{"cells":["a","1/1",1,"2d",null]}`), podTable(upstream, `{"cells":["a","1/1","1","2d"]}`)},
		"a kind without the last column": {podTable(define(podColumns), `{"cells":["a","1/1",4,"2d"]}`), podTable(define(podColumns), `{"cells":["a","1/1",4,"2d"]}`)},
		"a row that is too short":        {podTable(stored, `{"cells":["a"]}`), podTable(upstream, `{"cells":["a"]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			tr := translator()
			var copied strings.Builder
			if err := tr.Copy(&copied, strings.NewReader(tt.stored)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.TrimSpace(copied.String())); diff != "" {
				t.Errorf("streamed (-want +got):\n%s", diff)
			}
			whole, err := tr.AppendObject(nil, []byte(tt.stored))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(whole)); diff != "" {
				t.Errorf("whole (-want +got):\n%s", diff)
			}
		})
	}
}

// Only the first frame of a watch defines the columns.
func TestRestartsInAWatch(t *testing.T) {
	frame := func(table string) string { return fmt.Sprintf(`{"type":"MODIFIED","object":%s}`, table) }
	src := frame(podTable(define(podColumns+`,{"name":"Last Restart"}`), `{"cells":["a","1/1",1,"2d","3s"]}`)) + "\n" +
		frame(podTable(`"columnDefinitions":null,`, `{"cells":["a","1/1",2,"2d","1s"]}`)) + "\n"
	var got []string
	for event, err := range translator().WatchEvents(strings.NewReader(src)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(event.Object[strings.Index(string(event.Object), `"rows"`):]))
	}
	want := []string{`"rows":[{"cells":["a","1/1","1 (3s ago)","2d"]}]}`, `"rows":[{"cells":["a","1/1","2 (1s ago)","2d"]}]}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
