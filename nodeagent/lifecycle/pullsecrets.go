package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/credentials"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// registryFile in the agent's root folder holds the node's own credentials, as docker
// login writes them.
const registryFile = "config.json"

// credentialSource returns what a repository may be asked with.
type credentialSource = func(repository string) []runtime.Credential

// pullCredentials returns what the Pod's images may be pulled with. Nothing is read
// before one has to be pulled.
func (m *Manager) pullCredentials(ctx context.Context, pod *keelsonv1.Pod) credentialSource {
	keyrings := sync.OnceValue(func() []*credentials.Keyring { return m.keyrings(ctx, pod) })
	return func(repository string) []runtime.Credential {
		var all []runtime.Credential
		for _, k := range keyrings() {
			all = append(all, k.Lookup(repository)...)
		}
		return all
	}
}

// keyrings reads the Pod's Secrets, which come first, and the node's own credentials. A
// Secret that cannot be used stops nothing: the registry may not ask for it.
func (m *Manager) keyrings(ctx context.Context, pod *keelsonv1.Pod) []*credentials.Keyring {
	var ofPod, ofNode credentials.Keyring
	var unusable []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		err := m.addPullSecret(ctx, &ofPod, pod.Namespace, ref.Name)
		if err != nil {
			klog.FromContext(ctx).V(2).Info("Cannot use an image pull Secret", "secret", klog.KRef(pod.Namespace, ref.Name), "err", err)
			unusable = append(unusable, ref.Name)
		}
	}
	if len(unusable) > 0 {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventFailedPullSecret, Message: fmt.Sprintf(
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(unusable, ", "))})
	}
	if err := m.addNodeCredentials(&ofNode); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot use the node's own registry credentials")
	}
	return []*credentials.Keyring{&ofPod, &ofNode}
}

func (m *Manager) addPullSecret(ctx context.Context, k *credentials.Keyring, namespace, name string) error {
	secret, err := m.Objects.Secret(ctx, namespace, name)
	if err != nil {
		return err
	}
	return k.AddSecret(secret)
}

func (m *Manager) addNodeCredentials(k *credentials.Keyring) error {
	path := filepath.Join(m.RootDir, registryFile)
	config, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := k.AddConfig(config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
