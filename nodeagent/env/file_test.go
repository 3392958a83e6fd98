package env

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestLookUp(t *testing.T) {
	tests := map[string]struct {
		text, key string
		want      string
		wantErr   string
	}{
		"the key's value":                         {"A='one'\nB='two'\n", "B", "two", ""},
		"without an end of line":                  {"A='one'", "A", "one", ""},
		"lines of Windows":                        {"A='one'\r\nB='two'\r\n", "B", "two", ""},
		"spaces before the name":                  {" \tA='one'\n", "A", "one", ""},
		"blank lines and comments":                {"\n  \n# A='no'\n  # A='no'\nA='one'\n", "A", "one", ""},
		"a comment after the value":               {"A='one' # ' remark\n", "A", "one", ""},
		"a comment right after the quote":         {"A='one'#remark\n", "A", "one", ""},
		"a hash in the value":                     {"A='a#b'\n", "A", "a#b", ""},
		"equals signs in the value":               {"A='b=c=d'\n", "A", "b=c=d", ""},
		"nothing is expanded":                     {`A='$HOME ${B} \n "x"'`, "A", `$HOME ${B} \n "x"`, ""},
		"several lines":                           {"A='one\n two \n\nthree'\nB='x'", "A", "one\n two \n\nthree", ""},
		"a key after several lines":               {"A='one\nB=two'\nB='three'\n", "B", "three", ""},
		"the first of two":                        {"A='one'\nA='two'\n", "A", "one", ""},
		"a key that is missing":                   {"A='one'\n", "B", "", ""},
		"an empty file":                           {"", "A", "", ""},
		"empty quotes":                            {"A=''\n", "A", "", ""},
		"a space after the sign assigns nothing":  {"A= 'one'\n", "A", "", ""},
		"and hides nothing that follows":          {"A= 'one'\nB='two'\n", "B", "two", ""},
		"what follows the key is not looked at":   {"A='one'\nrubbish\n", "A", "one", ""},
		"what stands before it is":                {"rubbish\nA='one'\n", "A", "", "invalid environment variable format at line 1: missing '='"},
		"a space before the sign":                 {"B='x'\nA ='one'\n", "A", "", "invalid environment variable format at line 2: whitespace before '=' is not allowed"},
		"no name":                                 {"='one'\n", "A", "", "invalid environment variable format at line 1: empty variable name"},
		"no quotes":                               {"A=one\n", "A", "", "invalid environment variable format at line 1: value must be enclosed in single quotes"},
		"no value":                                {"A=\n", "A", "", "invalid environment variable format at line 1: value must be enclosed in single quotes"},
		"double quotes":                           {`A="one"`, "A", "", "invalid environment variable format at line 1: value must be enclosed in single quotes"},
		"two values side by side":                 {"A='one''two'\n", "A", "", "invalid environment variable format at line 1: unexpected content after closing quote"},
		"text after the quote of a second line":   {"A='one\ntwo' three\n", "A", "", "invalid environment variable format at line 2: unexpected content after closing quote"},
		"a quote that is not closed":              {"B='x'\nA='one\ntwo\n", "A", "", "invalid environment variable format starting at line 2: unclosed single quote"},
		"one that is not closed before the key's": {"B='x\nA=one\n", "A", "", "invalid environment variable format starting at line 1: unclosed single quote"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := lookUp(tt.text, tt.key)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got != tt.want || message != tt.wantErr {
				t.Errorf("got %q, error %q; want %q, error %q", got, message, tt.want, tt.wantErr)
			}
		})
	}
}

func TestVariablesFromFiles(t *testing.T) {
	key := func(volume, path, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: volume, Path: path, Key: key, Optional: optional}}
	}
	files := map[FileName]File{
		{"config", "env"}: {Text: "A='one'\nB='$(A)'\n", Where: "/volumes/config/env"},
		{"config", "bad"}: {Text: "A=one\n", Where: "/volumes/config/bad"},
	}
	tests := map[string]struct {
		env     []corev1.EnvVar
		want    []string
		wantErr string
	}{
		"a key":                       {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("config", "env", "A", nil)}, {Name: "Y", Value: "$(X)!"}}, want: []string{"X=one", "Y=one!"}},
		"a value stands for itself":   {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("config", "env", "B", nil)}}, want: []string{"X=$(A)"}},
		"a key that is missing":       {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("config", "env", "C", nil)}}, wantErr: `environment variable key "C" not found in file "/volumes/config/env"`},
		"an optional key":             {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("config", "env", "C", new(true))}, {Name: "Y", Value: "y"}}, want: []string{"Y=y"}},
		"a file that is not as asked": {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("config", "bad", "A", new(true))}}, wantErr: "couldn't parse env file"},
		"a volume that is not there":  {env: []corev1.EnvVar{{Name: "X", ValueFrom: key("none", "env", "A", nil)}}, wantErr: `cannot find the volume "none" referenced by FileKeyRef`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Compute(Input{Pod: &keelsonv1.Pod{}, Container: &corev1.Container{Env: tt.env}, Sources: Sources{Files: files}})
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != tt.wantErr {
				t.Errorf("error %q, want %q", message, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got.Env); diff != "" {
				t.Errorf("variables (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNeedsNamesFiles(t *testing.T) {
	c := &corev1.Container{Env: []corev1.EnvVar{
		{Name: "A", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "p", Key: "a"}}},
		{Name: "B", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "p", Key: "b"}}},
		{Name: "C", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "q", Key: "c"}}},
	}}
	if diff := cmp.Diff([]FileName{{"v", "p"}, {"v", "q"}}, Needs(c).Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
