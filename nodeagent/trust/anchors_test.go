package trust

import (
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func certificate(text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
}

func bundle(name, signer, text string, labels ...string) *certificatesv1.ClusterTrustBundle {
	b := &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text},
	}
	for _, label := range labels {
		metav1.SetMetaDataLabel(&b.ObjectMeta, label, "yes")
	}
	return b
}

func byName(name string) *corev1.ClusterTrustBundleProjection {
	return &corev1.ClusterTrustBundleProjection{Name: &name, Path: "ca.crt"}
}

func bySigner(signer string, selector *metav1.LabelSelector) *corev1.ClusterTrustBundleProjection {
	return &corev1.ClusterTrustBundleProjection{SignerName: &signer, LabelSelector: selector, Path: "ca.crt"}
}

func optional(s *corev1.ClusterTrustBundleProjection) *corev1.ClusterTrustBundleProjection {
	s.Optional = new(true)
	return s
}

func TestComputeAnchors(t *testing.T) {
	live := &metav1.LabelSelector{MatchLabels: map[string]string{"live": "yes"}}
	bundles := []*certificatesv1.ClusterTrustBundle{
		bundle("plain", "", certificate("b")+"a remark\n"+certificate("a")+certificate("b")),
		bundle("s1", "example.com/s", certificate("one"), "live"),
		bundle("s2", "example.com/s", certificate("two")+certificate("one"), "live", "new"),
		bundle("s3", "example.com/s", certificate("old")),
		bundle("t1", "example.com/t", certificate("other"), "live"),
	}
	tests := map[string]struct {
		source  *corev1.ClusterTrustBundleProjection
		want    string
		wantErr string
	}{
		"a named bundle gives each certificate once, and nothing else": {source: byName("plain"), want: certificate("a") + certificate("b")},
		"a bundle of a signer can be named too":                        {source: byName("s3"), want: certificate("old")},
		"a named bundle that is missing":                               {source: byName("gone"), wantErr: `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "gone" not found`},
		"an optional one that is missing is an empty file":             {source: optional(byName("gone"))},
		"a signer and labels give all that match, each once":           {source: bySigner("example.com/s", live), want: certificate("one") + certificate("two")},
		"an empty selector gives all of the signer":                    {source: bySigner("example.com/s", &metav1.LabelSelector{}), want: certificate("old") + certificate("one") + certificate("two")},
		"no selector gives none":                                       {source: bySigner("example.com/s", nil), wantErr: "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"no selector, optional":                                        {source: optional(bySigner("example.com/s", nil))},
		"nothing matches, optional":                                    {source: optional(bySigner("example.com/u", live))},
		"neither name nor signer":                                      {source: &corev1.ClusterTrustBundleProjection{Path: "x"}, wantErr: "ClusterTrustBundle projection requires either name or signerName to be set"},
		"a selector that is none": {
			source:  bySigner("example.com/s", &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}),
			wantErr: `while parsing label selector: "Near" is not a valid label selector operator`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := computeAnchors(tt.source, bundles)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != tt.wantErr {
				t.Errorf("error %q, want %q", message, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("anchors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConcerns(t *testing.T) {
	live := &metav1.LabelSelector{MatchLabels: map[string]string{"live": "yes"}}
	tests := map[string]struct {
		source        *corev1.ClusterTrustBundleProjection
		before, after *certificatesv1.ClusterTrustBundle
		want          bool
	}{
		"the named one came":        {byName("a"), nil, bundle("a", "", ""), true},
		"the named one went":        {byName("a"), bundle("a", "", ""), nil, true},
		"another one came":          {byName("a"), nil, bundle("b", "", ""), false},
		"one lost its label":        {bySigner("s", live), bundle("a", "s", "", "live"), bundle("a", "s", ""), true},
		"one got the label":         {bySigner("s", live), bundle("a", "s", ""), bundle("a", "s", "", "live"), true},
		"one of another signer":     {bySigner("s", live), nil, bundle("a", "t", "", "live"), false},
		"one that never matched":    {bySigner("s", live), bundle("a", "s", ""), bundle("a", "s", "", "new"), false},
		"nothing without selector":  {bySigner("s", nil), nil, bundle("a", "s", ""), false},
		"all with an empty one":     {bySigner("s", &metav1.LabelSelector{}), nil, bundle("a", "s", ""), true},
		"a selector that is broken": {bySigner("s", &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Operator: "Near"}}}), nil, bundle("a", "s", ""), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := concerns(tt.source, tt.before, tt.after); got != tt.want {
				t.Errorf("concerns = %v, want %v", got, tt.want)
			}
		})
	}
}
