package local

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/cluster/join"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/tokens"
)

// joinConfig is what machines that join have to know.
func (s Settings) joinConfig() join.ClusterConfig {
	c := join.ClusterConfig{ServiceCIDR: s.ServiceCIDR, ClusterCIDR: s.ClusterCIDR, ClusterDomain: clusterDomain, LoadBalancerPool: s.LoadBalancerPool}
	if !s.NoDNS {
		c.ClusterDNS = s.dnsAddress().String()
	}
	return c
}

func joinConfigMap(c join.ClusterConfig) (*unstructured.Unstructured, error) {
	text, err := c.Encode()
	if err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"namespace": join.ConfigNamespace, "name": join.ConfigName},
		"data":     map[string]any{join.ConfigKey: text},
	}}, nil
}

// checkJoinable refuses to send other machines where they cannot get: with several nodes
// on this machine the API server listens on the bridge between them.
func (s Settings) checkJoinable() error {
	if len(s.Nodes) == 0 {
		return nil
	}
	return fmt.Errorf("--print-join-command: the cluster's nodes are on this machine, and its API server listens on %s, which no other machine reaches: "+
		"'keelson node add' adds a node here; other machines can join a cluster that was started without --nodes", s.apiServerAddress())
}

// tokenAdmin is the administrator of the cluster in a data directory.
type tokenAdmin struct {
	client   client.Client
	settings Settings
	store    *pki.Store
}

func newTokenAdmin(o Options) (*tokenAdmin, error) {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return nil, err
	}
	s, known, err := readSettings(l.settingsFile())
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, fmt.Errorf("%s holds no cluster: name the folder of one with --data-dir, or start one with 'keelson up'", l.Data)
	}
	store := pki.NewStore(l.pkiDir(), clock.RealClock{})
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	c, err := client.New(newProbes(store, s).admin, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &tokenAdmin{client: c, settings: s, store: store}, nil
}

// TokenCreate makes a bootstrap token and prints it, or the command that uses it.
func TokenCreate(ctx context.Context, o Options, spec tokens.Spec, printJoin bool, out io.Writer) error {
	a, err := newTokenAdmin(o)
	if err != nil {
		return err
	}
	command := spec.Token.String()
	if printJoin {
		if err := a.settings.checkJoinable(); err != nil {
			return err
		}
		hash, err := a.authorityHash()
		if err != nil {
			return err
		}
		command = fmt.Sprintf("keelson join --token %s --ca-hash %s %s", spec.Token, hash, a.settings.apiServerAddress())
	}
	if err := tokens.Create(ctx, a.client, spec, time.Now()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, command)
	return err
}

// TokenList prints the tokens without their secrets.
func TokenList(ctx context.Context, o Options, out io.Writer) error {
	a, err := newTokenAdmin(o)
	if err != nil {
		return err
	}
	all, err := tokens.List(ctx, a.client)
	if err != nil {
		return err
	}
	return tokens.Print(out, all, time.Now())
}

// TokenDelete removes tokens by their IDs.
func TokenDelete(ctx context.Context, o Options, ids []string, out io.Writer) error {
	a, err := newTokenAdmin(o)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := tokens.Delete(ctx, a.client, id); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "Token %s is deleted.\n", id)
	}
	return errors.Join(errs...)
}

func (a *tokenAdmin) authorityHash() (string, error) {
	data, err := os.ReadFile(a.store.AuthorityFile(clusterCA))
	if err != nil {
		return "", fmt.Errorf("read the authority: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "", fmt.Errorf("read the authority: %s is not PEM", a.store.AuthorityFile(clusterCA))
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the authority: %w", err)
	}
	return join.HashOf(ca), nil
}
