package trust

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// sourcesOf are the projections of bundles in a Pod's volumes.
func sourcesOf(pod *keelsonv1.Pod) []*corev1.ClusterTrustBundleProjection {
	var all []*corev1.ClusterTrustBundleProjection
	for i := range pod.Spec.Volumes {
		projected := pod.Spec.Volumes[i].Projected
		if projected == nil {
			continue
		}
		for j := range projected.Sources {
			if source := projected.Sources[j].ClusterTrustBundle; source != nil {
				all = append(all, source)
			}
		}
	}
	return all
}

// concerns says whether a change from before to after, nil where there is none, can
// change what source gives.
func concerns(source *corev1.ClusterTrustBundleProjection, before, after *certificatesv1.ClusterTrustBundle) bool {
	selector, err := selectorOf(source)
	if err != nil {
		return false
	}
	return before != nil && matches(source, selector, before) || after != nil && matches(source, selector, after)
}

// selectorOf is nil for a source that names one bundle. Without a selector a source
// selects nothing, as upstream.
func selectorOf(source *corev1.ClusterTrustBundleProjection) (labels.Selector, error) {
	if source.Name != nil {
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(source.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	return selector, nil
}

func matches(source *corev1.ClusterTrustBundleProjection, selector labels.Selector, bundle *certificatesv1.ClusterTrustBundle) bool {
	if source.Name != nil {
		return bundle.Name == *source.Name
	}
	return bundle.Spec.SignerName == ptr.Deref(source.SignerName, "") && selector.Matches(labels.Set(bundle.Labels))
}

// computeAnchors is the text of the file that source asks for; the errors are upstream's.
func computeAnchors(source *corev1.ClusterTrustBundleProjection, bundles []*certificatesv1.ClusterTrustBundle) ([]byte, error) {
	if source.Name == nil && source.SignerName == nil {
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	selector, err := selectorOf(source)
	if err != nil {
		return nil, err
	}
	var selected []*certificatesv1.ClusterTrustBundle
	for _, bundle := range bundles {
		if matches(source, selector, bundle) {
			selected = append(selected, bundle)
		}
	}
	switch {
	case len(selected) > 0:
		return render(selected), nil
	case ptr.Deref(source.Optional, false):
		return []byte{}, nil
	case source.Name != nil:
		return nil, fmt.Errorf("while getting ClusterTrustBundle: %w",
			apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundle"), *source.Name))
	default:
		return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
}

// render writes each certificate once, without what stands around it in the bundles. The
// order says nothing; it is the same after a restart, so that the file does not change.
func render(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	certificates := map[string]bool{}
	for _, bundle := range bundles {
		rest := []byte(bundle.Spec.TrustBundle)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			certificates[string(block.Bytes)] = true
		}
	}
	var text strings.Builder
	for _, certificate := range slices.Sorted(maps.Keys(certificates)) {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(certificate)}))
	}
	return []byte(text.String())
}
