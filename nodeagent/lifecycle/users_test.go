package lifecycle

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

func makeUserPod(name string) *keelsonv1.Pod {
	pod := makePod(name, "app")
	pod.Spec.HostUsers = new(false)
	return pod
}

func TestUserIDsReachNetworkAndContainers(t *testing.T) {
	onMachine(t, func(m *machine) {
		first, second, plain := m.run(makeUserPod("first")), m.run(makeUserPod("second")), m.run(makePod("plain", "app"))
		want := map[types.UID]userns.Range{
			first.UID:  {HostID: userns.First, Length: userns.Length},
			second.UID: {HostID: userns.First + userns.Length, Length: userns.Length},
		}
		if diff := cmp.Diff(want, m.network.users); diff != "" {
			t.Errorf("users of network namespaces (-want +got):\n%s", diff)
		}
		for uid, users := range want {
			if diff := cmp.Diff(&users, m.runtime.Config(uid, "app").Users); diff != "" {
				t.Errorf("users of the container of %s (-want +got):\n%s", uid, diff)
			}
		}
		if users := m.runtime.Config(plain.UID, "app").Users; users != nil {
			t.Errorf("a Pod with the machine's users has %+v", users)
		}

		m.restart()
		m.run(second)
		third := m.run(makeUserPod("third"))
		if got := m.network.users[third.UID].HostID; got != userns.First+2*userns.Length {
			t.Errorf("after a restart a new Pod has the IDs from %d, which are another's", got)
		}
	})
}

type noUsers struct{}

func (noUsers) Acquire(types.UID) (userns.Range, error) {
	return userns.Range{}, errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces: boom")
}
func (noUsers) Release(types.UID) {}

func TestPodWithoutTheUserIDsItWantsDoesNotRun(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.manager.Users = noUsers{}
		pod := m.run(makeUserPod("web"))
		if s := m.statusOf(pod); s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("status is %+v", s)
		}
		if calls := m.runtime.Calls(); slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "RunSandbox") }) {
			t.Errorf("calls to the runtime: %v", calls)
		}
		want := "Warning  FailedCreatePodSandBox: Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces: boom"
		if m.events.count(want) == 0 {
			t.Errorf("events: %q", m.events.all())
		}
	})
}
