package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	networkingv1listers "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// watcher keeps the routes and the status of Ingresses what the API says.
type watcher struct {
	client    kubernetes.Interface
	class     string
	publish   types.NamespacedName
	informers informers.SharedInformerFactory
	ingresses networkingv1listers.IngressLister
	services  corev1listers.ServiceLister
	recorder  record.EventRecorder
	events    record.EventBroadcaster
	// routes are what requests take; they are there once ready is closed.
	routes atomic.Pointer[[]route]
	ready  chan struct{}
	// changed holds one mark for any number of changes that nobody has looked at.
	changed chan struct{}
	// warned are the Ingresses whose TLS was complained of, by their generation.
	warned map[types.UID]int64
}

func newWatcher(client kubernetes.Interface, class string, publish types.NamespacedName) *watcher {
	factory := informers.NewSharedInformerFactory(client, 0)
	events := record.NewBroadcaster()
	return &watcher{
		client: client, class: class, publish: publish, informers: factory, events: events,
		ingresses: factory.Networking().V1().Ingresses().Lister(),
		services:  factory.Core().V1().Services().Lister(),
		recorder:  events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "example-ingress"}),
		ready:     make(chan struct{}), changed: make(chan struct{}, 1), warned: map[types.UID]int64{},
	}
}

// parseName reads NAMESPACE/NAME, or nothing.
func parseName(text string) (types.NamespacedName, error) {
	namespace, name, ok := strings.Cut(text, "/")
	if text != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return types.NamespacedName{}, fmt.Errorf("%q is not NAMESPACE/NAME", text)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

// run works until the context ends. A status that could not be written is written after
// the next change, or by the next start.
func (w *watcher) run(ctx context.Context) error {
	w.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: w.client.CoreV1().Events("")})
	defer w.events.Shutdown()
	mark := func(any) {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: mark, UpdateFunc: func(_, now any) { mark(now) }, DeleteFunc: mark}
	for _, informer := range []cache.SharedIndexInformer{w.informers.Networking().V1().Ingresses().Informer(), w.informers.Core().V1().Services().Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	w.informers.Start(ctx.Done())
	defer w.informers.Shutdown()
	for kind, ok := range w.informers.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("read all %s: %w", kind, ctx.Err())
		}
	}
	if err := w.update(ctx); err != nil {
		return err
	}
	close(w.ready)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			if err := w.update(ctx); err != nil {
				slog.Error("Cannot follow a change", "err", err)
			}
		}
	}
}

// update computes the routes anew, and tells the Ingresses where they are served.
func (w *watcher) update(ctx context.Context) error {
	all, err := w.ingresses.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list Ingresses: %w", err)
	}
	var mine []*networkingv1.Ingress
	for _, ingress := range all {
		if class := ingress.Spec.IngressClassName; class != nil && *class == w.class {
			mine = append(mine, ingress)
		}
	}
	routes := computeRoutes(mine, w.service)
	w.routes.Store(&routes)
	w.warnOfTLS(mine)
	var errs []error
	for _, ingress := range mine {
		errs = append(errs, w.publishAddress(ctx, ingress))
	}
	return errors.Join(errs...)
}

func (w *watcher) service(name types.NamespacedName) *corev1.Service {
	s, err := w.services.Services(name.Namespace).Get(name.Name)
	if err != nil { // of a cache: it is not there
		return nil
	}
	return s
}

func (w *watcher) warnOfTLS(ingresses []*networkingv1.Ingress) {
	warned := map[types.UID]int64{}
	for _, ingress := range ingresses {
		if len(ingress.Spec.TLS) == 0 {
			continue
		}
		if warned[ingress.UID] = ingress.Generation; w.warned[ingress.UID] != ingress.Generation {
			w.recorder.Event(ingress, corev1.EventTypeWarning, "NoTLS", "spec.tls has no effect: this controller speaks HTTP only")
		}
	}
	w.warned = warned
}

// publishAddress writes the addresses of the Service in front of this program into the
// Ingress' status, which kubectl shows.
func (w *watcher) publishAddress(ctx context.Context, ingress *networkingv1.Ingress) error {
	if w.publish.Name == "" {
		return nil
	}
	want := computeStatus(w.service(w.publish))
	if equality.Semantic.DeepEqual(ingress.Status.LoadBalancer.Ingress, want) {
		return nil
	}
	changed := ingress.DeepCopy()
	changed.Status.LoadBalancer.Ingress = want
	_, err := w.client.NetworkingV1().Ingresses(ingress.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // the change comes by the watch
	}
	if err != nil {
		return fmt.Errorf("write the status of Ingress %s/%s: %w", ingress.Namespace, ingress.Name, err)
	}
	return nil
}

// computeStatus lists a Service's addresses: those outside, else its own.
func computeStatus(s *corev1.Service) []networkingv1.IngressLoadBalancerIngress {
	if s == nil {
		return nil
	}
	var addresses []networkingv1.IngressLoadBalancerIngress
	for _, i := range s.Status.LoadBalancer.Ingress {
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: i.IP, Hostname: i.Hostname})
	}
	if len(addresses) == 0 && s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: s.Spec.ClusterIP})
	}
	return addresses
}
