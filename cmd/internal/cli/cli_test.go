package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

type testOptions struct {
	Address string   `json:"address"`
	Workers int      `json:"workers"`
	Names   []string `json:"names,omitempty"`
}

func newTestOptions() *testOptions {
	return &testOptions{Address: "127.0.0.1", Workers: 2, Names: []string{"default"}}
}

func (o *testOptions) AddFlags(fss *cliflag.NamedFlagSets) {
	fss.FlagSet("serving").StringVar(&o.Address, "address", o.Address, "Where to listen.")
	fss.FlagSet("work").IntVar(&o.Workers, "workers", o.Workers, "How many workers.")
	fss.FlagSet("work").StringSliceVar(&o.Names, "names", o.Names, "What to work on.")
}

func (o *testOptions) Validate() error {
	if o.Workers < 1 {
		return errors.New("--workers: must be at least 1")
	}
	return nil
}

type result struct {
	code           int
	stdout, stderr string
	got            *testOptions
}

func execute(t *testing.T, ctx context.Context, work func(context.Context) error, args ...string) result {
	t.Helper()
	if err := logsapi.ResetForTest(nil); err != nil {
		t.Fatal(err)
	}
	var r result
	cmd := New(Component[testOptions, *testOptions]{
		Use: "keelson-test", Kind: "TestConfiguration", Short: "A test.", New: newTestOptions,
		Run: func(ctx context.Context, o testOptions) error {
			r.got = &o
			return work(ctx)
		},
	})
	var stdout, stderr bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&stdout)
	r.code = Execute(ctx, cmd, &stderr)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

func succeed(context.Context) error { return nil }

func TestSettings(t *testing.T) {
	const header = "apiVersion: config.keelson.dev/v1alpha1\nkind: TestConfiguration\n"
	tests := map[string]struct {
		config     string
		args       []string
		want       *testOptions
		wantCode   int
		wantStderr []string
	}{
		"nothing given leaves the defaults": {
			want: newTestOptions(),
		},
		"a flag sets its field": {
			args: []string{"--workers=5"},
			want: &testOptions{Address: "127.0.0.1", Workers: 5, Names: []string{"default"}},
		},
		"the file wins over defaults and a flag wins over the file": {
			config: header + "address: 10.0.0.1\nworkers: 7\n",
			args:   []string{"--workers", "9"},
			want:   &testOptions{Address: "10.0.0.1", Workers: 9, Names: []string{"default"}},
		},
		"a list flag replaces the file's list": {
			config: header + "names: [a, b]\n",
			args:   []string{"--names=c", "--names=d"},
			want:   &testOptions{Address: "127.0.0.1", Workers: 2, Names: []string{"c", "d"}},
		},
		"logging may stand in the file": {
			config: header + "logging: {format: json, verbosity: 2}\n",
			want:   newTestOptions(),
		},
		"unknown fields are all named": {
			config:     header + "addr: x\nworker: 1\n",
			wantCode:   ExitUsage,
			wantStderr: []string{`unknown field "addr"`, `unknown field "worker"`, "config.yaml"},
		},
		"an unknown field of logging is named": {
			config:     header + "logging: {fromat: json}\n",
			wantCode:   ExitUsage,
			wantStderr: []string{`logging: unknown field "fromat"`},
		},
		"a field given twice is named": {
			config:     header + "workers: 1\nworkers: 2\n",
			wantCode:   ExitUsage,
			wantStderr: []string{`key "workers" already set`},
		},
		"a value of the wrong type names the field": {
			config:     header + "workers: many\n",
			wantCode:   ExitUsage,
			wantStderr: []string{"workers", "wrong value"},
		},
		"another kind's file is refused with the kind to write": {
			config:     "apiVersion: config.keelson.dev/v1alpha1\nkind: OtherConfiguration\n",
			wantCode:   ExitUsage,
			wantStderr: []string{"kind is \"OtherConfiguration\"", "reads TestConfiguration"},
		},
		"an empty file says what is missing": {
			config:     "{}\n",
			wantCode:   ExitUsage,
			wantStderr: []string{"apiVersion is missing", "kind is missing"},
		},
		"a list instead of an object is refused": {
			config:     "- a\n",
			wantCode:   ExitUsage,
			wantStderr: []string{"must hold one object"},
		},
		"an unknown flag is a usage error": {
			args:       []string{"--wrokers=1"},
			wantCode:   ExitUsage,
			wantStderr: []string{"unknown flag: --wrokers", "--help"},
		},
		"a stray argument is a usage error": {
			args:       []string{"start"},
			wantCode:   ExitUsage,
			wantStderr: []string{`unexpected argument "start"`},
		},
		"what Validate says is a usage error": {
			args:       []string{"--workers=0"},
			wantCode:   ExitUsage,
			wantStderr: []string{"--workers: must be at least 1"},
		},
		"an unknown log format names the flag's values": {
			args:       []string{"--logging-format=xml"},
			wantCode:   ExitUsage,
			wantStderr: []string{"logging.format", "xml"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if tt.config != "" {
				path := filepath.Join(t.TempDir(), "config.yaml")
				if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append([]string{"--config", path}, args...)
			}
			r := execute(t, t.Context(), succeed, args...)
			if r.code != tt.wantCode {
				t.Errorf("exit code %d, want %d; stderr: %s", r.code, tt.wantCode, r.stderr)
			}
			if diff := cmp.Diff(tt.want, r.got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			for _, want := range tt.wantStderr {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("stderr %q lacks %q", r.stderr, want)
				}
			}
		})
	}
}

func TestMissingConfigFile(t *testing.T) {
	r := execute(t, t.Context(), succeed, "--config=/does/not/exist.yaml")
	if r.code != ExitUsage || !strings.Contains(r.stderr, "--config") {
		t.Errorf("code %d, stderr %q", r.code, r.stderr)
	}
}

func TestHelpGroupsFlags(t *testing.T) {
	r := execute(t, t.Context(), succeed, "--help")
	if r.code != ExitOK || r.got != nil {
		t.Fatalf("code %d, ran: %v", r.code, r.got != nil)
	}
	at := -1
	for _, heading := range []string{"Serving flags:", "--address", "Work flags:", "--workers", "Logging flags:", "--logging-format", "Global flags:", "--config"} {
		i := strings.Index(r.stdout, heading)
		if i < at || i < 0 {
			t.Errorf("%q missing or out of order in:\n%s", heading, r.stdout)
		}
		at = i
	}
}

func TestVersionDoesNotRun(t *testing.T) {
	r := execute(t, t.Context(), succeed, "--version")
	if r.code != ExitOK || r.got != nil || !strings.HasPrefix(r.stdout, "keelson-test v0.0.0-dev (commit ") {
		t.Errorf("code %d, stdout %q", r.code, r.stdout)
	}
}

func TestExitCodes(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"success":                                   {ctx: t.Context(), want: ExitOK},
		"failure":                                   {ctx: t.Context(), err: errors.New("boom"), want: ExitFailure},
		"the context's error after a signal":        {ctx: ended, err: context.Canceled, want: ExitOK},
		"another error after a signal":              {ctx: ended, err: errors.New("boom"), want: ExitFailure},
		"a cancellation that no signal asked for":   {ctx: t.Context(), err: context.Canceled, want: ExitFailure},
		"a usage error found while the work begins": {ctx: t.Context(), err: &UsageError{Err: errors.New("x")}, want: ExitUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := execute(t, tt.ctx, func(context.Context) error { return tt.err })
			if r.code != tt.want {
				t.Errorf("exit code %d, want %d; stderr %q", r.code, tt.want, r.stderr)
			}
		})
	}
}
