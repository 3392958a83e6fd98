package tokens

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Create writes a new token.
func Create(ctx context.Context, c client.Client, s Spec, now time.Time) error {
	if err := s.Validate(); err != nil {
		return err
	}
	err := c.Create(ctx, render(s, now))
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("a token with ID %s exists already: delete it with 'keelson token delete %s', or create one with another ID", s.Token.ID, s.Token.ID)
	}
	if err != nil {
		return fmt.Errorf("create the token: %w", err)
	}
	return nil
}

// List returns all tokens, in the order of their IDs.
func List(ctx context.Context, c client.Client) ([]Info, error) {
	var secrets corev1.SecretList
	err := c.List(ctx, &secrets, client.InNamespace(metav1.NamespaceSystem),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("type", string(corev1.SecretTypeBootstrapToken))})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	var all []Info
	for i := range secrets.Items {
		if info, ok := describe(&secrets.Items[i]); ok {
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Print shows tokens as a table.
func Print(out io.Writer, all []Info, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TOKEN ID\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tEXTRA GROUPS")
	for _, t := range all {
		ttl, expires := left(t, now)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, ttl, expires, orNone(strings.Join(t.Usages, ",")), orNone(t.Description), orNone(strings.Join(t.Groups, ",")))
	}
	return w.Flush()
}

func left(t Info, now time.Time) (ttl, expires string) {
	switch {
	case t.Invalid:
		return "<invalid>", "<invalid>"
	case t.Expires.IsZero():
		return "<forever>", "<never>"
	case !now.Before(t.Expires):
		return "<expired>", t.Expires.Format(time.RFC3339)
	}
	return duration.ShortHumanDuration(t.Expires.Sub(now)), t.Expires.Format(time.RFC3339)
}

func orNone(text string) string { return cmp.Or(text, "<none>") }

// Delete removes a token; machines that joined with it stay.
func Delete(ctx context.Context, c client.Client, id string) error {
	secret := &corev1.Secret{}
	err := c.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: SecretName(id)}, secret)
	if err == nil && secret.Type != corev1.SecretTypeBootstrapToken {
		return fmt.Errorf("Secret %s is no bootstrap token: its type is %q", secret.Name, secret.Type)
	}
	if err == nil {
		err = c.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})
	}
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token with ID %s: 'keelson token list' shows them", id)
	}
	if err != nil {
		return fmt.Errorf("delete the token: %w", err)
	}
	return nil
}
