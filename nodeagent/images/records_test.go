package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func openRecords(t *testing.T, dir string) *Records {
	t.Helper()
	r, err := OpenRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// of is a credential of a Secret.
func of(secret, user string) *runtime.Credential {
	return &runtime.Credential{Username: user, Password: "p", Secret: &runtime.SecretRef{UID: types.UID("uid of " + secret), Namespace: "ns", Name: secret}}
}

func TestAccess(t *testing.T) {
	fromNode := &runtime.Credential{Username: "node"}
	tests := map[string]struct {
		given []*runtime.Credential // what the registry took, in order
		shown *runtime.Credential
		want  bool
	}{
		"whom nobody was asked for, everybody may use":     {[]*runtime.Credential{nil}, nil, true},
		"what the node got, everybody may use":             {[]*runtime.Credential{fromNode}, nil, true},
		"a Secret's owner may":                             {[]*runtime.Credential{of("a", "u")}, of("a", "u"), true},
		"one with nothing may not":                         {[]*runtime.Credential{of("a", "u")}, nil, false},
		"another Secret with the same password may":        {[]*runtime.Credential{of("a", "u")}, of("b", "u"), true},
		"the same Secret with another password may":        {[]*runtime.Credential{of("a", "u")}, of("a", "v"), true},
		"another Secret with another password may not":     {[]*runtime.Credential{of("a", "u")}, of("b", "v"), false},
		"each of two may":                                  {[]*runtime.Credential{of("a", "u"), of("b", "v")}, of("a", "u"), true},
		"one for everybody counts for all":                 {[]*runtime.Credential{of("a", "u"), nil}, of("c", "w"), true},
		"and for ever":                                     {[]*runtime.Credential{nil, of("a", "u")}, nil, true},
		"the node's own credential shows nothing of a Pod": {[]*runtime.Credential{of("a", "u")}, fromNode, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := access{}
			for i, c := range tt.given {
				if i == 0 {
					a = access{}.with(c)
				} else {
					a = a.with(c)
				}
			}
			var shown []runtime.Credential
			if tt.shown != nil {
				shown = append(shown, *tt.shown)
			}
			if _, got := a.admits(shown); got != tt.want {
				t.Errorf("admits = %v, want %v (%+v)", got, tt.want, a)
			}
		})
	}
}

func TestAccessDoesNotGrowForEver(t *testing.T) {
	a := access{}
	for i := range 3 * maxSecrets {
		a = a.with(of("s"+strings.Repeat("x", i), "u"+strings.Repeat("x", i)))
	}
	if len(a.Secrets) != maxSecrets {
		t.Errorf("%d Secrets, want %d", len(a.Secrets), maxSecrets)
	}
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	r := openRecords(t, dir)
	if found, pulledHere, err := r.find("sha256:1", "app:1"); found != nil || pulledHere || err != nil {
		t.Errorf("an image that somebody else has put here: %+v, %v, %v", found, pulledHere, err)
	}
	check(t, r.begin("app:1"))
	if _, pulledHere, _ := r.find("sha256:1", "app:1"); !pulledHere {
		t.Error("an image that is being pulled does not count as pulled here")
	}
	check(t, r.pulled("sha256:1", "reg/app", of("a", "u")))
	check(t, r.end("app:1"))

	r = openRecords(t, dir)
	found, pulledHere, err := r.find("sha256:1", "app:1")
	if err != nil || !pulledHere || found == nil || len(found.Repositories["reg/app"].Secrets) != 1 {
		t.Errorf("after a restart: %+v, %v, %v", found, pulledHere, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v, want the record alone", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if data, err := os.ReadFile(files[0]); err != nil || strings.Contains(string(data), `"u"`) || strings.Contains(string(data), "assword") {
		t.Errorf("the record tells too much: %s", data)
	}
}

func TestPullCutShortByACrash(t *testing.T) {
	dir := t.TempDir()
	r := openRecords(t, dir)
	check(t, r.begin("app:1"))
	check(t, r.begin("gone:1"))
	r = openRecords(t, dir) // the process is another one now
	if found, pulledHere, err := r.find("sha256:1", "app:1"); found != nil || !pulledHere || err != nil {
		t.Errorf("%+v, %v, %v, want an image that this node has pulled for nobody knows whom", found, pulledHere, err)
	}
	present := []runtime.StoredImage{{ID: "sha256:1", Names: []string{"app:1"}}}
	check(t, r.Prune(present, time.Now().Add(time.Hour)))
	found, _, err := r.find("sha256:1", "other name")
	if err != nil || found == nil || len(found.Repositories) != 0 {
		t.Errorf("record %+v, %v, want one for nobody", found, err)
	}
	if _, pulledHere, _ := r.find("sha256:2", "gone:1"); pulledHere {
		t.Error("the note of a pull that came to nothing is still there")
	}
}

func TestPrune(t *testing.T) {
	r := openRecords(t, t.TempDir())
	for _, id := range []string{"sha256:1", "sha256:2"} {
		check(t, r.pulled(id, "reg/app", nil))
	}
	check(t, r.begin("app:3"))
	present := []runtime.StoredImage{{ID: "sha256:1"}}
	check(t, r.Prune(present, time.Now().Add(-time.Hour)))
	if found, _, _ := r.find("sha256:2", "x"); found == nil {
		t.Error("a record that is newer than the list was removed")
	}
	check(t, r.Prune(present, time.Now().Add(time.Hour)))
	if found, _, _ := r.find("sha256:2", "x"); found != nil {
		t.Error("the record of an image that is gone is still there")
	}
	if found, _, _ := r.find("sha256:1", "x"); found == nil {
		t.Error("the record of an image that is here was removed")
	}
	if _, pulledHere, _ := r.find("sha256:3", "app:3"); !pulledHere {
		t.Error("the note of a pull under way was removed")
	}
}

func TestRecordThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	r := openRecords(t, dir)
	check(t, os.WriteFile(r.imageFile("sha256:1"), []byte("{"), 0o600))
	if _, pulledHere, err := r.find("sha256:1", "app:1"); err == nil || !pulledHere {
		t.Errorf("%v, %v, want an error and an image that was pulled here", pulledHere, err)
	}
	check(t, r.pulled("sha256:1", "reg/app", nil))
	if found, _, err := r.find("sha256:1", "app:1"); err != nil || !found.Repositories["reg/app"].Everybody {
		t.Errorf("after a pull: %+v, %v", found, err)
	}
	if _, err := OpenRecords(filepath.Join(dir, imagesFolder, "sha256-1.json")); !errors.Is(err, fs.ErrExist) && err == nil {
		t.Error("opened a file as a folder")
	}
}
