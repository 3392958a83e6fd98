package join

import (
	"context"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// follower keeps what the cluster says to its nodes, and lets the agent start again when
// that has changed. It has no state but the settings: they are written first, so that a
// supervisor that starts after a crash starts the agent with them.
type follower struct {
	client kubernetes.Interface
	// keep writes the settings; restart ends the agent, which the supervisor starts again.
	keep    func(settings) error
	restart func(context.Context) error

	// changing is held while the settings are kept and taken up, mu while they are replaced.
	changing, mu sync.Mutex
	settings     settings
}

func (f *follower) now() settings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settings
}

// follow watches the cluster's ConfigMap until ctx ends. A cluster that cannot be reached
// is asked again by the informer, and the node works with what it knows.
func (f *follower) follow(ctx context.Context) {
	changes := make(chan *corev1.ConfigMap)
	send := func(object any) {
		if configMap, ok := object.(*corev1.ConfigMap); ok {
			select {
			case changes <- configMap:
			case <-ctx.Done():
			}
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(f.client, 0, informers.WithNamespace(ConfigNamespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, ConfigName).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	// It is not deleted while there is a cluster; and nothing would follow from it.
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: send, UpdateFunc: func(_, now any) { send(now) }})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot follow the cluster's settings for nodes")
		return
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	for {
		select {
		case <-ctx.Done():
			return
		case configMap := <-changes:
			f.take(ctx, configMap)
		}
	}
}

// take makes the settings those of the cluster.
func (f *follower) take(ctx context.Context, configMap *corev1.ConfigMap) {
	log := klog.FromContext(ctx)
	cluster, err := decodeConfig(configMap.Data)
	if err != nil {
		log.Error(err, "The node goes on with the settings that it has")
		return
	}
	f.change(ctx, "The cluster's settings for nodes have changed; the agent starts again with them", func(s *settings) bool {
		was := s.Cluster
		s.Cluster = cluster
		return !reflect.DeepEqual(was, cluster)
	})
}

// change replaces settings, if they become others, keeps them, and starts the agent again
// with them.
func (f *follower) change(ctx context.Context, message string, replace func(*settings) bool, about ...any) {
	f.changing.Lock()
	defer f.changing.Unlock()
	log := klog.FromContext(ctx)
	s := f.now()
	if !replace(&s) {
		return
	}
	if err := f.keep(s); err != nil {
		log.Error(err, "Cannot keep the node's new settings; it goes on with those that it has")
		return
	}
	f.mu.Lock()
	f.settings = s
	f.mu.Unlock()
	log.Info(message, about...)
	if err := f.restart(ctx); err != nil {
		log.Error(err, "Cannot end the agent; it takes the settings when it starts again")
	}
}
