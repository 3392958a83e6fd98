package admission

import "testing"

func TestCheckMirror(t *testing.T) {
	pod := func(annotations map[string]any) tree {
		return tree{"metadata": map[string]any{"annotations": annotations}}
	}
	mirror := pod(map[string]any{"kubernetes.io/config.mirror": "1"})
	tests := map[string]struct {
		now, old tree
		want     string
	}{
		"a Pod stays one":          {now: pod(nil), old: pod(nil)},
		"a mirror stays one":       {now: mirror, old: mirror},
		"a Pod becomes a mirror":   {now: mirror, old: pod(nil), want: "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"},
		"a mirror becomes a Pod":   {now: pod(nil), old: mirror, want: "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"},
		"a mirror of another hash": {now: pod(map[string]any{"kubernetes.io/config.mirror": "2"}), old: mirror, want: "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if errs := checkMirror(tt.now, tt.old); len(errs) > 0 {
				got = errs[0].Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
