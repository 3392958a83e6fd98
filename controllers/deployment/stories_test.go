package deployment

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var update = flag.Bool("update", false, "write the stories in testdata again")

// TestStories runs whole rollouts and compares every step with testdata/stories.
func TestStories(t *testing.T) {
	percent := func(p string) intstr.IntOrString { return intstr.FromString(p) }
	number := func(n int32) intstr.IntOrString { return intstr.FromInt32(n) }
	tests := map[string]func() *world{
		"three-replicas-with-the-defaults": func() *world {
			w := newWorld(3, percent("25%"), percent("25%"))
			w.settle()
			w.image("main:2")
			w.settle()
			return w
		},
		"ten-replicas-surge-three-unavailable-two": func() *world {
			w := newWorld(10, number(3), number(2))
			w.settle()
			w.image("main:2")
			w.settle()
			return w
		},
		"one-by-one-without-surge": func() *world {
			w := newWorld(3, number(0), number(1))
			w.settle()
			w.image("main:2")
			w.settle()
			return w
		},
		"both-bounds-round-to-zero": func() *world {
			w := newWorld(2, percent("0%"), percent("1%"))
			w.settle()
			w.image("main:2")
			w.settle()
			return w
		},
		"recreate": func() *world {
			w := newWorld(3, number(1), number(1))
			w.d.Spec.Strategy = upstreamappsv1.DeploymentStrategy{Type: upstreamappsv1.RecreateDeploymentStrategyType}
			w.settle()
			w.image("main:2")
			w.settle()
			return w
		},
		"a-broken-image-and-back": func() *world {
			w := newWorld(10, number(3), number(2))
			w.settle()
			w.image("broken")
			w.settle()
			w.now = w.now.Add(601 * time.Second)
			w.settle()
			w.image("main:1")
			w.settle()
			return w
		},
		"a-third-template-before-the-second-works": func() *world {
			w := newWorld(10, number(3), number(2))
			w.settle()
			w.image("broken")
			w.settle()
			w.image("main:3")
			w.settle()
			return w
		},
		"scaled-during-a-rollout-that-hangs": func() *world {
			w := newWorld(10, number(3), number(2))
			w.settle()
			w.image("broken")
			w.settle()
			w.scale(30)
			w.settle()
			w.scale(5)
			w.settle()
			w.scale(0)
			w.settle()
			return w
		},
		"paused-in-between": func() *world {
			w := newWorld(4, number(1), number(1))
			w.settle()
			w.pause(true)
			w.image("main:2")
			w.settle()
			w.scale(6)
			w.settle()
			w.pause(false)
			w.settle()
			return w
		},
		"history-is-cut": func() *world {
			w := newWorld(1, number(1), number(0))
			w.d.Spec.RevisionHistoryLimit = new(int32(1))
			w.settle()
			for _, image := range []string{"main:2", "main:3", "main:2"} {
				w.image(image)
				w.settle()
			}
			return w
		},
		"down-to-zero-and-up-again": func() *world {
			w := newWorld(2, number(1), number(0))
			w.settle()
			w.scale(0)
			w.settle()
			w.image("main:2")
			w.settle()
			w.scale(2)
			w.settle()
			return w
		},
	}
	for name, tell := range tests {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(tell().log, "\n") + "\n"
			file := filepath.Join("testdata", "stories", name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got; go test -update writes it):\n%s", diff)
			}
		})
	}
}
