package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// resolve asks as a program does that was compiled without a C library: with the
// servers, the search list and the options of resolv.conf.
func resolve(ctx context.Context, what, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*clientTimeout)
	defer cancel()
	lines, err := ask(ctx, what, name)
	if err != nil {
		return err
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

func ask(ctx context.Context, what, name string) ([]string, error) {
	var resolver net.Resolver
	switch what {
	case "host":
		return resolver.LookupHost(ctx, name)
	case "addr":
		return resolver.LookupAddr(ctx, name)
	case "cname":
		canonical, err := resolver.LookupCNAME(ctx, name)
		return []string{canonical}, err
	case "srv":
		_, records, err := resolver.LookupSRV(ctx, "", "", name)
		var lines []string
		for _, r := range records {
			lines = append(lines, fmt.Sprintf("%s:%d", r.Target, r.Port))
		}
		return lines, err
	}
	return nil, fmt.Errorf("cannot resolve %q: host, cname, srv or addr", what)
}

const askers = 8

// askAgainAfter is how long a client waits before it asks once more for a name. About one
// lookup in 5,000 failed while a DNS server was killed. Presumably, which nobody has seen yet,
// both tries of the resolver met that server, the second at once because nobody listened. To be
// found out; if the cause is ours, the second question has to go.
const askAgainAfter = 200 * time.Millisecond

func lookups(ctx context.Context, name, duration string) error {
	during, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	end := time.Now().Add(during)
	var asked, again, failed atomic.Int64
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				asked.Add(1)
				_, err := net.DefaultResolver.LookupHost(ctx, name)
				if err != nil {
					again.Add(1)
					time.Sleep(askAgainAfter)
					_, err = net.DefaultResolver.LookupHost(ctx, name)
				}
				if err != nil {
					failed.Add(1)
					fmt.Println(err)
				}
			}
		})
	}
	all.Wait()
	fmt.Printf("asked %d again %d failed %d\n", asked.Load(), again.Load(), failed.Load())
	return nil
}
