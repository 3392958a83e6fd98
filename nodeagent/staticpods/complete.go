package staticpods

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// origin is where a manifest was found.
type origin struct {
	// source is SourceFile or SourceHTTP; place the file's path or the URL.
	source, place string
	node          string
}

// parse makes Pods that can run on the node of a manifest.
func parse(data []byte, from origin) ([]*keelsonv1.Pod, error) {
	pods, err := Decode(data)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if errs := checkMetadata(pod); len(errs) > 0 {
			return nil, fmt.Errorf("invalid pod %q: %w", pod.Name, errs.ToAggregate())
		}
		if err := complete(pod, from); err != nil {
			return nil, err
		}
		SetDefaults(pod)
		if errs := Validate(pod); len(errs) > 0 {
			return nil, fmt.Errorf("invalid pod %q: %w", pod.Name, errs.ToAggregate())
		}
		if resource := Reference(&pod.Spec); resource != "" {
			return nil, fmt.Errorf("pod %q: static pods may not reference %s", pod.Name, resource)
		}
	}
	return pods, nil
}

// complete gives a Pod of a manifest its name, UID and place. The UID follows from the
// manifest as it was written, so that a newer agent with other defaults restarts nothing.
func complete(pod *keelsonv1.Pod, from origin) error {
	pod.TypeMeta = metav1.TypeMeta{APIVersion: keelsonv1.GroupVersion.String(), Kind: "Pod"}
	pod.Status = keelsonv1.PodStatus{}
	pod.ObjectMeta = metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: pod.Annotations,
	}
	written, err := json.Marshal(pod)
	if err != nil {
		return fmt.Errorf("encoding pod %q: %w", pod.Name, err)
	}
	hash := fnv.New128a()
	_, _ = hash.Write(written) // it never fails
	if from.source == SourceFile {
		fmt.Fprintf(hash, "host:%s", from.node)
	}
	fmt.Fprintf(hash, "%s:%s", from.source, from.place)
	pod.UID = types.UID(hex.EncodeToString(hash.Sum(nil)))

	pod.Name += "-" + strings.ToLower(from.node)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = from.node
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[HashAnnotation], pod.Annotations[SourceAnnotation] = string(pod.UID), from.source
	if from.source == SourceFile {
		tolerateExecution(pod)
	}
	pod.Status.Phase = corev1.PodPending
	return nil
}

// tolerateExecution keeps a Pod that only its node knows of on it, whatever befalls the
// node.
func tolerateExecution(pod *keelsonv1.Pod) {
	always := corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	for _, t := range pod.Spec.Tolerations {
		if t == always {
			return
		}
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, always)
}
