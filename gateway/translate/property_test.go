package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyValue draws JSON, often with the names that this package looks for.
func anyValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		last := 5
		if depth == 0 {
			last = 3
		}
		switch rapid.IntRange(0, last).Draw(t, "type") {
		case 0:
			return rapid.Bool().Draw(t, "bool")
		case 1:
			return rapid.Int64().Draw(t, "int")
		case 2, 3:
			return someText().Draw(t, "string")
		case 4:
			return rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "list")
		}
		return rapid.MapOfN(someText(), anyValue(depth-1), 0, 4).Draw(t, "object")
	})
}

func someText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"apiVersion", "kind", "metadata", "status", "v1", "Pod", "ownerReferences", "items", "rows", "f:summary", `v:"keelson.dev/pod"`, "a\"b\\", "é \u2028 <&>"}),
		rapid.String(),
	)
}

// upstreamObject draws an object as a client may send it: what this package renames is
// there more often than by chance, what clients cannot know is not there.
func upstreamObject(t *rapid.T) map[string]any {
	kind := rapid.SampledFrom([]string{"Pod", "Node", "Service", "ReplicationController"}).Draw(t, "kind")
	metadata := map[string]any{"name": rapid.String().Draw(t, "name")}
	reference := rapid.Custom(func(t *rapid.T) any {
		return map[string]any{
			"apiVersion": rapid.SampledFrom([]string{"v1", "apps/v1", "x/v2"}).Draw(t, "version"),
			"kind":       rapid.SampledFrom([]string{"Pod", "Node", "ConfigMap", "ReplicaSet"}).Draw(t, "kind"),
			"name":       someText().Draw(t, "name"),
		}
	})
	optional := func(name string, value func() any) {
		if rapid.Bool().Draw(t, name) {
			metadata[name] = value()
		}
	}
	optional("ownerReferences", func() any { return rapid.SliceOfN(reference, 1, 3).Draw(t, "owners") })
	optional("finalizers", func() any {
		return rapid.SliceOfN(rapid.Map(rapid.StringMatching("[a-z]+/[a-z]+"), func(s string) any { return s }), 1, 3).Draw(t, "finalizers")
	})
	optional("managedFields", func() any {
		return []any{map[string]any{"apiVersion": "v1", "manager": someText().Draw(t, "manager"), "fieldsV1": map[string]any{"f:spec": anyValue(2).Draw(t, "fields")}}}
	})
	optional("annotations", func() any {
		annotations := map[string]any{}
		for name, value := range rapid.MapOfN(someText(), someText(), 1, 3).Draw(t, "annotations") {
			annotations[name] = value
		}
		applied, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"ownerReferences": []any{reference.Draw(t, "applied owner")}}, "spec": anyValue(2).Draw(t, "applied")})
		if err != nil {
			t.Fatal(err)
		}
		annotations["kubectl.kubernetes.io/last-applied-configuration"] = string(applied) + "\n"
		return annotations
	})
	obj := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": metadata}
	maps.Copy(obj, map[string]any{"spec": anyValue(3).Draw(t, "spec"), "status": map[string]any{"phase": anyValue(2).Draw(t, "status"), "qosClass": "Burstable"}})
	return obj
}

// TestWhatIsStoredIsRead: whatever a client writes it reads again, alone, from a list,
// from a watch, and through an update that changes nothing.
func TestWhatIsStoredIsRead(t *testing.T) {
	translator := translator()
	rapid.Check(t, func(t *rapid.T) {
		sent := upstreamObject(t)
		want := normal(t, sent)
		stored := normal(t, sent)
		kind, _ := sent["kind"].(string)
		row := translator.names.upstream[versionKind{"v1", kind}]
		if err := translator.ToStored(row, stored); err != nil {
			t.Fatal(err)
		}
		if stored["apiVersion"] != "core.keelson.dev/v1" {
			t.Fatalf("stored as %v", stored["apiVersion"])
		}
		layout := json.Marshal
		if rapid.Bool().Draw(t, "indented") {
			layout = func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }
		}
		text, err := layout(stored)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := translator.AppendObject(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "alone", want, alone)

		var copied bytes.Buffer
		if err := translator.Copy(&copied, iotest.HalfReader(bytes.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		same(t, "copied", want, copied.Bytes())

		for event, err := range translator.WatchEvents(strings.NewReader(`{"type":"ADDED","object":` + string(text) + "}\n")) {
			if err != nil {
				t.Fatal(err)
			}
			same(t, "watched", want, event.Object)
		}

		listed := maps.Clone(want)
		delete(listed, "apiVersion")
		delete(listed, "kind")
		for item, err := range translator.Items(strings.NewReader(`{"items":[` + string(text) + `]}`)).All() {
			if err != nil {
				t.Fatal(err)
			}
			same(t, "listed", listed, item)
		}
	})
}

// normal is a copy of a tree with the types that decoding gives.
func normal(t *rapid.T, tree map[string]any) map[string]any {
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, text)
}

func decoded(t *rapid.T, text []byte) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree map[string]any
	if err := decoder.Decode(&tree); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return tree
}

func same(t *rapid.T, what string, want map[string]any, got []byte) {
	if diff := cmp.Diff(want, decoded(t, got)); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// FuzzRead feeds any bytes as an answer: invalid JSON is refused, and valid JSON stays
// valid.
func FuzzRead(f *testing.F) {
	f.Add(runningPod(0))
	f.Add(podList(2))
	for _, seed := range []string{
		``, ` `, `{`, `}`, `{}`, `[]`, `null`, `"a`, `{"a":`, `{"items":[`, `{"items":[1,{"a":2}],"items":[]}`, `{"items":null,"rows":[{}]}`,
		`{"a":1}{`, `{"kind":"Status","apiVersion":"v1","code":"x"}`, "{\n \"items\": [ {} , 1 ] , \"kind\" : 3 }",
		`{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"deletionTimestamp":"x","finalizers":["keelson.dev/pod"]}}`,
		`{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"deletionTimestamp":"9999-12-31T23:59:59Z","finalizers":["keelson.dev/pod"]},"spec":{"terminationGracePeriodSeconds":9223372036854775807}}`,
		`{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"generation":2,"annotations":{"keelson.dev/generation-before-binding":"1"}},"spec":{"containers":[{"resources":{"limits":{"cpu":1}}}]},"status":{"observedGeneration":2,"conditions":[{"observedGeneration":2},3]}}`,
		`{"kind":"Pod","apiVersion":"core.keelson.dev/v1","metadata":{"generation":1e3,"annotations":{"keelson.dev/generation-before-binding":"9223372036854775807"}},"spec":null,"status":{"observedGeneration":"x","conditions":{}}}`,
		`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"kind\":\"Pod\",\"apiVersion\":\"core.keelson.dev/v1\"}\ud800"}}}`,
		`{"type":"ADDED","object":{}}`, `{"type":"ADDED","object":{}} {"type":"ER`,
	} {
		f.Add([]byte(seed))
	}
	t := translator()
	f.Fuzz(func(tt *testing.T, input []byte) {
		valid := isValid(input)
		appended, err := t.AppendObject(nil, input)
		if (err == nil) != valid || valid && !isValid(appended) {
			tt.Fatalf("valid %v: %v: %q", valid, err, appended)
		}
		var copied bytes.Buffer
		err = t.Copy(&copied, bytes.NewReader(input))
		if (err == nil) != valid || valid && !isValid(copied.Bytes()) {
			tt.Fatalf("valid %v: %v: %q", valid, err, copied.Bytes())
		}
		if valid && input[0] != ' ' && !bytes.ContainsAny(input, "\n\r\t ") && copied.String() != string(appended)+"\n" {
			tt.Fatalf("Copy %q, AppendObject %q", copied.Bytes(), appended)
		}
		for event, err := range t.WatchEvents(bytes.NewReader(input)) {
			if err == nil && !isValid(event.Object) {
				tt.Fatalf("object %q", event.Object)
			}
		}
		list := t.Items(bytes.NewReader(input))
		for item, err := range list.All() {
			if err == nil && !isValid(item) {
				tt.Fatalf("item %q", item)
			}
		}
		_ = renameApplied(input, t.names.storedVersion)
	})
}

// TestCopyHoldsOneItem: an endless list goes through in bounded memory, as fast as its
// reader takes it, and ends with the writer's error.
func TestCopyHoldsOneItem(t *testing.T) {
	pod := append(runningPod(0), ',')
	source := io.MultiReader(strings.NewReader(`{"kind":"PodList","apiVersion":"core.keelson.dev/v1","items":[`), &endless{pod: pod})
	sink := &limited{left: 64 << 20}
	if err := translator().Copy(sink, source); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	if sink.largest > flushSize+2*len(pod) {
		t.Errorf("%d bytes were held", sink.largest)
	}
}

// endless repeats its text.
type endless struct {
	pod []byte
	at  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.pod[e.at:])
	e.at = (e.at + n) % len(e.pod)
	return n, nil
}

var errFull = errors.New("full")

// limited fails when it is full, and knows the largest write.
type limited struct{ left, largest int }

func (l *limited) Write(p []byte) (int, error) {
	l.largest = max(l.largest, len(p))
	if l.left -= len(p); l.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestBrokenStreams: what breaks off is an error, wherever it does.
func TestBrokenStreams(t *testing.T) {
	list := podList(2)
	for i := range len(list) - 2 {
		if err := translator().Copy(io.Discard, bytes.NewReader(list[:i])); err == nil {
			t.Fatalf("a list cut after %d bytes passes", i)
		}
	}
	frame := `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"core.keelson.dev/v1"}}`
	for i := range len(frame) + 1 {
		var err error
		for _, err = range translator().WatchEvents(strings.NewReader(frame[:i])) {
			if err != nil {
				break
			}
		}
		if whole := i == 0 || i == len(frame); (err == nil) != whole {
			t.Fatalf("a frame cut after %d bytes: %v", i, err)
		}
	}
	for _, frame := range []string{`[]`, `{}`, `{"type":"ADDED"}`, `{"object":{}}`, `{"type":"ADDED","object":1}`} {
		for _, err := range translator().WatchEvents(strings.NewReader(frame)) {
			if err == nil {
				t.Errorf("%s passes", frame)
			}
		}
	}
}
