package plugins_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
)

// Cases after upstream's tests of queueing hints.
func TestEventsHelp(t *testing.T) {
	node := func() *schedulertest.Node { return schedulertest.MakeNode("n") }
	added := func(n *schedulertest.Node) *plugins.Event {
		return &plugins.Event{Kind: plugins.NodeAdded, NewNode: n.Obj().Upstream()}
	}
	changed := func(kind plugins.EventKind, old, now *schedulertest.Node) *plugins.Event {
		return &plugins.Event{Kind: kind, OldNode: old.Obj().Upstream(), NewNode: now.Obj().Upstream()}
	}
	gone := func(p *schedulertest.Pod) *plugins.Event {
		return &plugins.Event{Kind: plugins.PodGone, OldPod: p.Info()}
	}
	placed := func(p *schedulertest.Pod) *plugins.Event {
		return &plugins.Event{Kind: plugins.PodPlaced, NewPod: p.Info()}
	}
	relabelled := func(old, now *schedulertest.Pod) *plugins.Event {
		return &plugins.Event{Kind: plugins.PodRelabelled, OldPod: old.Info(), NewPod: now.Info()}
	}
	pod := func() *schedulertest.Pod { return schedulertest.MakePod("p") }
	web := func() *schedulertest.Pod { return schedulertest.MakePod("w").Label("app", "web").On("n") }
	db := func() *schedulertest.Pod { return schedulertest.MakePod("w").Label("app", "db").On("n") }
	term := schedulertest.Term(zoneKey, "app", "web")
	spread := func() *schedulertest.Pod {
		return pod().Label("app", "web").Spread(1, zoneKey, corev1.DoNotSchedule, "app", "web")
	}
	tests := map[string]struct {
		plugin string
		pod    *schedulertest.Pod
		event  *plugins.Event
		want   bool
	}{
		"cordon: a node that is open":                   {plugins.NameNodeUnschedulable, pod(), added(node()), true},
		"cordon: a node that is closed":                 {plugins.NameNodeUnschedulable, pod(), added(node().Cordon()), false},
		"cordon: opened":                                {plugins.NameNodeUnschedulable, pod(), changed(plugins.NodeTaints, node().Cordon(), node()), true},
		"cordon: was open":                              {plugins.NameNodeUnschedulable, pod(), changed(plugins.NodeTaints, node().Taint("a", "NoSchedule"), node()), false},
		"taints: a tainted node":                        {plugins.NameTaintToleration, pod(), added(node().Taint("a", "NoSchedule")), false},
		"taints: the taint goes":                        {plugins.NameTaintToleration, pod(), changed(plugins.NodeTaints, node().Taint("a", "NoSchedule"), node()), true},
		"taints: another taint goes":                    {plugins.NameTaintToleration, pod(), changed(plugins.NodeTaints, node().Taint("a", "NoSchedule").Taint("b", "NoSchedule"), node().Taint("a", "NoSchedule")), false},
		"affinity: the label comes":                     {plugins.NameNodeAffinity, pod().Selects("d", "ssd"), changed(plugins.NodeLabels, node(), node().Label("d", "ssd")), true},
		"affinity: another label comes":                 {plugins.NameNodeAffinity, pod().Selects("d", "ssd"), changed(plugins.NodeLabels, node(), node().Label("d", "hdd")), false},
		"affinity: the node matched before":             {plugins.NameNodeAffinity, pod().Selects("d", "ssd"), changed(plugins.NodeLabels, node().Label("d", "ssd"), node().Label("d", "ssd").Label("e", "f")), false},
		"ports: the port becomes free":                  {plugins.NameNodePorts, pod().HostPort(80, "", ""), gone(pod().HostPort(80, "", "").On("n")), true},
		"ports: another port becomes free":              {plugins.NameNodePorts, pod().HostPort(80, "", ""), gone(pod().HostPort(81, "", "").On("n")), false},
		"room: a pod goes":                              {plugins.NameNodeResourcesFit, pod().Asks("2", ""), gone(pod().On("n")), true},
		"room: a node that is large enough":             {plugins.NameNodeResourcesFit, pod().Asks("4", ""), added(node()), true},
		"room: a node that is too small":                {plugins.NameNodeResourcesFit, pod().Asks("5", ""), added(node()), false},
		"room: the node grows":                          {plugins.NameNodeResourcesFit, pod().Asks("3", ""), changed(plugins.NodeAllocatable, node().Room("2", "8Gi", "110"), node()), true},
		"room: the node grows in something else":        {plugins.NameNodeResourcesFit, pod().Asks("3", ""), changed(plugins.NodeAllocatable, node().Room("4", "4Gi", "110"), node()), false},
		"room: the node takes more pods":                {plugins.NameNodeResourcesFit, pod().Asks("3", ""), changed(plugins.NodeAllocatable, node().Room("4", "8Gi", "10"), node()), true},
		"pod affinity: the wanted pod comes":            {plugins.NameInterPodAffinity, pod().With(term), placed(web()), true},
		"pod affinity: another pod comes":               {plugins.NameInterPodAffinity, pod().With(term), placed(db()), false},
		"pod affinity: a pod becomes the wanted":        {plugins.NameInterPodAffinity, pod().With(term), relabelled(db(), web()), true},
		"pod affinity: a pod ceases to be in the way":   {plugins.NameInterPodAffinity, pod().Without(term), relabelled(web(), db()), true},
		"pod affinity: the pod in the way goes":         {plugins.NameInterPodAffinity, pod().Without(term), gone(web()), true},
		"pod affinity: another pod goes":                {plugins.NameInterPodAffinity, pod().Without(term), gone(db()), false},
		"pod affinity: a pod that kept away goes":       {plugins.NameInterPodAffinity, pod().Label("app", "web"), gone(db().Without(term)), true},
		"pod affinity: a node with the key":             {plugins.NameInterPodAffinity, pod().With(term), added(node().Zone("a")), true},
		"pod affinity: a node without the key":          {plugins.NameInterPodAffinity, pod().With(term), added(node()), false},
		"pod affinity: a node for one that keeps apart": {plugins.NameInterPodAffinity, pod().Without(term), added(node()), true},
		"pod affinity: a node changes its zone":         {plugins.NameInterPodAffinity, pod().Without(term), changed(plugins.NodeLabels, node().Zone("a"), node().Zone("b")), true},
		"pod affinity: a node changes another label":    {plugins.NameInterPodAffinity, pod().Without(term), changed(plugins.NodeLabels, node().Zone("a"), node().Zone("a").Label("x", "y")), false},
		"spread: one that counts goes":                  {plugins.NamePodTopologySpread, spread(), gone(web()), true},
		"spread: one that does not count goes":          {plugins.NamePodTopologySpread, spread(), gone(db()), false},
		"spread: one of another namespace goes":         {plugins.NamePodTopologySpread, spread(), gone(web().Namespace("other")), false},
		"spread: one that counts comes":                 {plugins.NamePodTopologySpread, spread(), placed(web()), true},
		"spread: one begins to count":                   {plugins.NamePodTopologySpread, spread(), relabelled(db(), web()), true},
		"spread: a node with the key":                   {plugins.NamePodTopologySpread, spread(), added(node().Zone("a")), true},
		"spread: a node without the key":                {plugins.NamePodTopologySpread, spread(), added(node()), false},
		"spread: an empty domain goes":                  {plugins.NamePodTopologySpread, spread(), &plugins.Event{Kind: plugins.NodeRemoved, OldNode: node().Zone("a").Obj().Upstream()}, true},
		"spread: a node changes another label":          {plugins.NamePodTopologySpread, spread(), changed(plugins.NodeLabels, node().Zone("a"), node().Zone("a").Label("x", "y")), false},
	}
	settings := plugins.DefaultSettings()
	settings.Workloads = byLabel{}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			filter, err := plugins.NewFilter(tc.plugin, settings)
			if err != nil {
				t.Fatal(err)
			}
			if filter.Events()&tc.event.Kind == 0 {
				t.Fatalf("%s does not ask for events of kind %b", tc.plugin, tc.event.Kind)
			}
			if got := filter.Helps(tc.pod.Info(), tc.event); got != tc.want {
				t.Errorf("helps: %t, want %t", got, tc.want)
			}
		})
	}
}
