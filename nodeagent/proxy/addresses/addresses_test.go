package addresses

import (
	"context"
	"net/netip"
	"slices"
	"testing"
)

func TestListHasLoopback(t *testing.T) {
	got, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("no 127.0.0.1 among %v", got)
	}
}

func TestFollowEnds(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := Follow(ctx, func() {}); err != nil {
		t.Errorf("error is %v", err)
	}
}
