package network

import (
	"context"
	"errors"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

var errUnfinished = errors.New("not built yet")

func (n *Network) Configure(ctx context.Context, podCIDR netip.Prefix) error { return errUnfinished }
func (n *Network) Setup(ctx context.Context, ref PodRef) (PodNetwork, error) {
	return PodNetwork{}, errUnfinished
}
func (n *Network) Teardown(ctx context.Context, uid types.UID) error { return errUnfinished }
func (n *Network) Sweep(ctx context.Context, keep func(types.UID) bool) error {
	return errUnfinished
}
func (n *Network) Remove(ctx context.Context) error { return errUnfinished }
