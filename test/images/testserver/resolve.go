package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
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
