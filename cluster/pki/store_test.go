package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func server() Leaf {
	return Leaf{
		Name: "apiserver", Authority: "cluster-ca", User: "kube-apiserver", Usage: Server,
		DNSNames: []string{"localhost", "kubernetes.default.svc"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}
}

func admin() Leaf {
	return Leaf{Name: "admin", Authority: "cluster-ca", User: "keelson:admin", Groups: []string{"system:masters"}, Usage: Client}
}

type fixture struct {
	*Store
	t     *testing.T
	clock *testingclock.FakePassiveClock
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	c := testingclock.NewFakePassiveClock(start)
	return &fixture{Store: NewStore(t.TempDir(), c), t: t, clock: c}
}

func (f *fixture) ensure(leaves ...Leaf) []Issued {
	f.t.Helper()
	issued, err := f.Ensure([]string{"cluster-ca"}, []string{"service-account"}, leaves)
	if err != nil {
		f.t.Fatal(err)
	}
	return issued
}

func TestEnsureAgain(t *testing.T) {
	tests := map[string]struct {
		change func(f *fixture)
		leaf   func() Leaf
		want   []Issued
	}{
		"right away changes nothing": {
			change: func(*fixture) {}, leaf: server,
		},
		"with two thirds of the life gone renews": {
			change: func(f *fixture) { f.clock.SetTime(start.Add(LeafLifetime*2/3 + time.Hour)) }, leaf: server,
			want: []Issued{{"apiserver", "it ends on 2027-11-21"}},
		},
		"shortly before that does not": {
			change: func(f *fixture) { f.clock.SetTime(start.Add(LeafLifetime*2/3 - time.Hour)) }, leaf: server,
		},
		"with a clock that was set back issues one that is valid now": {
			change: func(f *fixture) { f.clock.SetTime(start.Add(-time.Hour)) }, leaf: server,
			want: []Issued{{"apiserver", "it begins on 2026-11-21 only"}},
		},
		"with another address issues again": {
			change: func(*fixture) {},
			leaf: func() Leaf {
				l := server()
				l.Addresses = append(l.Addresses, netip.MustParseAddr("10.0.0.7"))
				return l
			},
			want: []Issued{{"apiserver", "its names or addresses changed"}},
		},
		"with names in another order changes nothing": {
			change: func(*fixture) {},
			leaf: func() Leaf {
				l := server()
				l.DNSNames = []string{"kubernetes.default.svc", "localhost"}
				return l
			},
		},
		"for another user issues again": {
			change: func(*fixture) {},
			leaf:   func() Leaf { l := server(); l.User = "other"; return l },
			want:   []Issued{{"apiserver", "it names somebody else"}},
		},
		"for another usage issues again": {
			change: func(*fixture) {},
			leaf:   func() Leaf { l := server(); l.Usage = Peer; return l },
			want:   []Issued{{"apiserver", "its usage changed"}},
		},
		"after the file was cut issues again": {
			change: func(f *fixture) {
				data, err := os.ReadFile(f.LeafFile("apiserver"))
				if err != nil {
					f.t.Fatal(err)
				}
				if err := os.WriteFile(f.LeafFile("apiserver"), data[:len(data)/4], 0o600); err != nil {
					f.t.Fatal(err)
				}
			},
			leaf: server,
			want: []Issued{{"apiserver", "it cannot be read: no CERTIFICATE in it"}},
		},
		"after the authority was replaced by hand issues again": {
			change: func(f *fixture) {
				for _, file := range []string{f.AuthorityFile("cluster-ca"), f.AuthorityKeyFile("cluster-ca")} {
					if err := os.Remove(file); err != nil {
						f.t.Fatal(err)
					}
				}
			},
			leaf: server,
			want: []Issued{{"cluster-ca", "there is none yet"}, {"apiserver", "it was signed by another authority"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.ensure(server())
			tt.change(f)
			got := f.ensure(tt.leaf())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("issued (-want +got):\n%s", diff)
			}
			if again := f.ensure(tt.leaf()); again != nil {
				t.Errorf("a third run issued %v", again)
			}
		})
	}
}

func TestInterruptedFirstRunStartsOver(t *testing.T) {
	f := newFixture(t)
	f.ensure()
	if err := os.Remove(f.AuthorityFile("cluster-ca")); err != nil {
		t.Fatal(err)
	}
	if got := f.ensure(); len(got) != 1 {
		t.Errorf("issued %v, want the authority", got)
	}
}

func TestLostAuthorityKeyIsAnErrorThatSaysSo(t *testing.T) {
	f := newFixture(t)
	f.ensure()
	if err := os.Remove(f.AuthorityKeyFile("cluster-ca")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Ensure([]string{"cluster-ca"}, nil, nil); err == nil || !strings.Contains(err.Error(), "cluster-ca.key") {
		t.Errorf("error %v does not name the missing key", err)
	}
}

func TestKeysArePrivateAndKeptOverRenewal(t *testing.T) {
	f := newFixture(t)
	f.ensure(server(), admin())
	private, public := f.SigningKeyFiles("service-account")
	for _, file := range []string{f.LeafFile("apiserver"), f.LeafFile("admin"), f.AuthorityKeyFile("cluster-ca"), private} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
	before, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.SetTime(start.Add(LeafLifetime))
	f.ensure(server(), admin())
	after, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the key that signs tokens changed: every token would be void")
	}
	if _, err := os.Stat(public); err != nil {
		t.Error(err)
	}
}

func TestCertificatesWorkOverTLS(t *testing.T) {
	f := newFixture(t)
	f.clock.SetTime(time.Now())
	f.ensure(server(), admin())
	ca, err := os.ReadFile(f.AuthorityFile("cluster-ca"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	load := func(name string) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(f.LeafFile(name), f.LeafFile(name))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{load("apiserver")}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	caller := make(chan string, 1)
	go func() {
		defer close(caller)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		server := conn.(*tls.Conn)
		if err := server.HandshakeContext(t.Context()); err == nil {
			subject := server.ConnectionState().PeerCertificates[0].Subject
			caller <- subject.CommonName + " " + strings.Join(subject.Organization, ",")
		}
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{load("admin")}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := <-caller; got != "keelson:admin system:masters" {
		t.Errorf("the server saw %q", got)
	}
}

func TestAChainHoldsTheAuthorityBehindTheLeaf(t *testing.T) {
	dir := t.TempDir()
	store := NewStore(dir, testingclock.NewFakePassiveClock(start))
	leaf := Leaf{Name: "server", Authority: "ca", User: "server", Usage: Server}
	for _, step := range []struct {
		chain  bool
		reason string
		blocks int
	}{{false, "there is none yet", 1}, {true, "its authority is not with it", 2}, {true, "", 2}} {
		leaf.Chain = step.chain
		issued, err := store.Ensure([]string{"ca"}, nil, []Leaf{leaf})
		if err != nil {
			t.Fatal(err)
		}
		reason := ""
		for _, i := range issued {
			if i.Name == leaf.Name {
				reason = i.Reason
			}
		}
		pair, err := tls.LoadX509KeyPair(store.LeafFile(leaf.Name), store.LeafFile(leaf.Name))
		if err != nil {
			t.Fatal(err)
		}
		if reason != step.reason || len(pair.Certificate) != step.blocks {
			t.Errorf("chain %t: issued because %q, with %d certificates; want %q and %d", step.chain, reason, len(pair.Certificate), step.reason, step.blocks)
		}
	}
}
