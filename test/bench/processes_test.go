package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCPU(t *testing.T) {
	for name, tc := range map[string]struct {
		stat    string
		want    float64
		wantErr bool
	}{
		"own time and that of ended children": {
			stat: "7 (etcd) S 1 7 7 0 -1 4194560 10 20 30 40 100 50 25 75 20 0 9 0 123 456 789\n", want: 2.5,
		},
		"a program named to confuse": {
			stat: "7 (a) S 1 (b) S 1 7 7 0 -1 4194560 10 20 30 40 1 2 3 4 20 0 9 0 123 456 789\n", want: 0.1,
		},
		"cut off":       {stat: "7 (etcd) S 1 7 7 0\n", wantErr: true},
		"not a process": {stat: "hello", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCPU(tc.stat)
			if (err != nil) != tc.wantErr || got != tc.want {
				t.Errorf("got %v, %v; want %v, error %v", got, err, tc.want, tc.wantErr)
			}
		})
	}
}

func TestParseMemory(t *testing.T) {
	const rollup = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:                1420 kB\nPss:                 301 kB\nPss_Dirty:            96 kB\n"
	for name, want := range map[string]uint64{"Rss:": 1420 * 1024, "Pss:": 301 * 1024} {
		if got, err := parseMemory(rollup, name); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", name, got, err, want)
		}
	}
	if _, err := parseMemory(rollup, "Swap:"); err == nil {
		t.Error("a line that is not there was found")
	}
}

func TestSumUsage(t *testing.T) {
	before := map[int]process{1: {program: "etcd", cpu: 5}, 2: {program: "ended", cpu: 1}}
	after := map[int]process{
		1: {program: "etcd", cpu: 7, rss: 4096, pss: 2048},
		3: {program: "shim", cpu: 0.5, rss: 8192, pss: 3072},
		4: {program: "shim", cpu: 0.25, rss: 8192, pss: 1024},
		5: {program: "testserver", pss: 1 << 20},
	}
	want := []Usage{
		{Program: "testserver", Count: 1, PSS: 1 << 20, Workload: true},
		{Program: "shim", Count: 2, RSS: 16384, PSS: 4096, CPU: 0.75},
		{Program: "etcd", Count: 1, RSS: 4096, PSS: 2048, CPU: 2},
	}
	if diff := cmp.Diff(want, sumUsage(before, after)); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func TestQuantile(t *testing.T) {
	d := Distribution{0.5, 0.1, 0.4, 0.2, 0.3, 0.6, 0.7, 1.0, 0.9, 0.8}
	for q, want := range map[float64]float64{0: 0.1, 0.5: 0.5, 0.9: 0.9, 0.95: 1.0, 1: 1.0} {
		if got := d.quantile(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := (Distribution{}).quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v, want 0", got)
	}
}
