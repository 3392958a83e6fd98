package resourcemetrics

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// convert turns an object or list of metrics into the form that a client asked for
// instead.
func convert(answer runtime.Object, wanted schema.GroupVersionKind) (runtime.Object, error) {
	switch wanted.Kind {
	case "Table":
		return table(answer)
	case "PartialObjectMetadata":
		object, err := meta.Accessor(answer)
		if err != nil {
			return nil, fmt.Errorf("show the metadata of %T: %w", answer, err)
		}
		return partial(object), nil
	case "PartialObjectMetadataList":
		list := &metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{Kind: wanted.Kind, APIVersion: metav1.SchemeGroupVersion.String()},
			Items:    []metav1.PartialObjectMetadata{},
		}
		err := meta.EachListItem(answer, func(item runtime.Object) error {
			object, err := meta.Accessor(item)
			if err == nil {
				list.Items = append(list.Items, *partial(object))
			}
			return err
		})
		return list, err
	}
	return nil, fmt.Errorf("metrics cannot be shown as %s", wanted.Kind)
}

func partial(object metav1.Object) *metav1.PartialObjectMetadata {
	p := meta.AsPartialObjectMetadata(object)
	p.TypeMeta = metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.SchemeGroupVersion.String()}
	return p
}

// table shows metrics in the columns of a stock metrics server.
func table(answer runtime.Object) (*metav1.Table, error) {
	shown := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: metav1.SchemeGroupVersion.String()},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
			{Name: string(corev1.ResourceCPU), Type: "string", Format: "quantity"},
			{Name: string(corev1.ResourceMemory), Type: "string", Format: "quantity"},
			{Name: "Window", Type: "string", Format: "duration"},
		},
		Rows: []metav1.TableRow{},
	}
	add := func(item runtime.Object) error {
		row, err := tableRow(item)
		if err == nil {
			shown.Rows = append(shown.Rows, row)
		}
		return err
	}
	if meta.IsListType(answer) {
		return shown, meta.EachListItem(answer, add)
	}
	return shown, add(answer)
}

func tableRow(item runtime.Object) (metav1.TableRow, error) {
	var (
		name   string
		used   corev1.ResourceList
		window metav1.Duration
	)
	switch metrics := item.(type) {
	case *metricsv1beta1.NodeMetrics:
		name, used, window = metrics.Name, metrics.Usage, metrics.Window
	case *metricsv1beta1.PodMetrics:
		name, used, window = metrics.Name, sum(metrics.Containers), metrics.Window
	default:
		return metav1.TableRow{}, fmt.Errorf("show %T in a table: it is not of metrics.k8s.io", item)
	}
	object, err := meta.Accessor(item)
	if err != nil {
		return metav1.TableRow{}, fmt.Errorf("show %T in a table: %w", item, err)
	}
	return metav1.TableRow{
		Cells:  []any{name, used.Cpu().String(), used.Memory().String(), window.Duration.String()},
		Object: runtime.RawExtension{Object: partial(object)},
	}, nil
}

func sum(containers []metricsv1beta1.ContainerMetrics) corev1.ResourceList {
	total := corev1.ResourceList{}
	for _, container := range containers {
		for name, quantity := range container.Usage {
			sum, ok := total[name]
			if !ok {
				sum = resource.Quantity{Format: quantity.Format}
			}
			sum.Add(quantity)
			total[name] = sum
		}
	}
	return total
}
