package lifecycle

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRuntimeClasses(t *testing.T) {
	tests := map[string]struct {
		class     *string
		wantEvent string
	}{
		"none":                {},
		"an empty name":       {class: new("")},
		"the handler is runc": {class: new("plain")},
		"the handler is another": {class: new("boxed"),
			wantEvent: `Warning  FailedCreatePodSandBox: Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "gvisor" is configured`},
		"the class is gone": {class: new("gone"),
			wantEvent: `Warning  FailedCreatePodSandBox: Failed to create pod sandbox: failed to get RuntimeClass "gone": not found`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				m.manager.RuntimeHandler = func(_ context.Context, class string) (string, error) {
					handler, ok := map[string]string{"plain": "runc", "boxed": "gvisor"}[class]
					if !ok {
						return "", errors.New("not found")
					}
					return handler, nil
				}
				pod := makePod("web", "main")
				pod.Spec.RuntimeClassName = tt.class
				m.run(pod)
				m.after(time.Second)
				if running := m.container(pod, "main").State.Running != nil; running != (tt.wantEvent == "") {
					t.Errorf("running %t", running)
				}
				if tt.wantEvent != "" && m.events.count(tt.wantEvent) == 0 {
					t.Errorf("no event %s in %v", tt.wantEvent, m.events.all())
				}
			})
		})
	}
}
