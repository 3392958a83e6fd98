package streams

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// query decodes the parameters of a request with the functions that an API server uses,
// so that it takes the same values and refuses the same ones. A parameter that occurs
// several times counts once, the first time, where it is not a list.
type query struct {
	values url.Values
	err    error
}

func decode[T any](q *query, name string, into *T, convert func(*[]string, *T, conversion.Scope) error) {
	values := q.values[name]
	if q.err != nil || len(values) == 0 {
		return
	}
	if err := convert(&values, into, nil); err != nil {
		q.err = apierrors.NewBadRequest(err.Error())
	}
}

func (q *query) bool(name string, into *bool) {
	decode(q, name, into, runtime.Convert_Slice_string_To_bool)
}

func (q *query) string(name string, into *string) {
	decode(q, name, into, runtime.Convert_Slice_string_To_string)
}

func (q *query) int64(name string, into **int64) {
	decode(q, name, into, runtime.Convert_Slice_string_To_Pointer_int64)
}

func logOptions(values url.Values) (*corev1.PodLogOptions, error) {
	q, options := &query{values: values}, &corev1.PodLogOptions{}
	q.string("container", &options.Container)
	q.bool("follow", &options.Follow)
	q.bool("previous", &options.Previous)
	q.int64("sinceSeconds", &options.SinceSeconds)
	decode(q, "sinceTime", &options.SinceTime, metav1.Convert_Slice_string_To_Pointer_v1_Time)
	q.bool("timestamps", &options.Timestamps)
	q.int64("tailLines", &options.TailLines)
	q.int64("limitBytes", &options.LimitBytes)
	q.bool("insecureSkipTLSVerifyBackend", &options.InsecureSkipTLSVerifyBackend)
	if values.Has("stream") {
		options.Stream = new(values.Get("stream"))
	}
	return options, q.err
}

func execOptions(values url.Values) (*corev1.PodExecOptions, error) {
	q, options := &query{values: values}, &corev1.PodExecOptions{}
	q.bool("stdin", &options.Stdin)
	q.bool("stdout", &options.Stdout)
	q.bool("stderr", &options.Stderr)
	q.bool("tty", &options.TTY)
	q.string("container", &options.Container)
	options.Command = values["command"]
	return options, q.err
}

func portForwardOptions(values url.Values) (*corev1.PodPortForwardOptions, error) {
	q, options := &query{values: values}, &corev1.PodPortForwardOptions{}
	decode(q, "ports", &options.Ports, metav1.Convert_Slice_string_To_Slice_int32)
	return options, q.err
}
