package local

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/pki"
)

// deleteJoined removes the Node object of another machine that has left the cluster.
func deleteJoined(ctx context.Context, s Settings, store *pki.Store, name string, out io.Writer) error {
	api, err := newProbes(store, s).apiClient()
	if err != nil {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	var all keelsonv1.NodeList
	if err := api.List(ctx, &all); err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	node, err := deletable(all.Items, s.NodeName, name)
	if err != nil {
		return err
	}
	if err := api.Delete(ctx, node, client.Preconditions{UID: &node.UID}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Node %s: %w", name, err)
	}
	teller(out)("Node %s is deleted", name)
	return nil
}

// deletable returns the Node of that name, if no agent would register it again.
func deletable(all []keelsonv1.Node, own, name string) (*keelsonv1.Node, error) {
	if name == own {
		return nil, fmt.Errorf("node %s is this machine itself, which runs the cluster: end it with 'keelson down'", name)
	}
	i := slices.IndexFunc(all, func(n keelsonv1.Node) bool { return n.Name == name })
	if i < 0 {
		var names []string
		for _, n := range all {
			names = append(names, n.Name)
		}
		return nil, fmt.Errorf("there is no node %q: there are %s", name, strings.Join(names, ", "))
	}
	if nodeReady(&all[i]) {
		return nil, fmt.Errorf("node %s is ready, and its agent would register it again: run 'keelson leave' on that machine first", name)
	}
	return &all[i], nil
}

func nodeReady(n *keelsonv1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// ofOneMachine returns the settings of a cluster whose only node here is this machine, so
// that others can only have joined.
func ofOneMachine(o Options) (s Settings, store *pki.Store, ok bool, err error) {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return s, nil, false, err
	}
	s, known, err := readSettings(l.settingsFile())
	if err != nil || !known || s.several() {
		return s, nil, false, err
	}
	return s, pki.NewStore(l.pkiDir(), clock.RealClock{}), true, nil
}
