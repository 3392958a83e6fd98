// Package codec speaks the content types of the plain Kubernetes API: it negotiates
// them as an API server does, decodes request bodies, and encodes answers of the API
// server behind the gateway, which always are JSON, as JSON, YAML or protobuf.
//
// Answers in JSON and watches stream; of a list in protobuf the encoded items are held
// until their length is known. The package never talks to the API server and decides
// nothing about objects. It keeps no state, so a crash leaves nothing to recover.
package codec

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/keelson-dev/keelson/gateway/translate"
)

// Codec encodes and decodes. It is safe for concurrent use.
type Codec struct {
	translator *translate.Translator
	// serializers are those of the built-in types: JSON, YAML and protobuf.
	serializers runtime.NegotiatedSerializer
	// options are those of DeleteOptions, which every group and version has.
	options     runtime.NegotiatedSerializer
	compressors *sync.Pool
}

// New returns a Codec that translates answers with translator.
func New(translator *translate.Translator) *Codec {
	options := runtime.NewScheme()
	for _, version := range append(scheme.Scheme.PrioritizedVersionsAllGroups(), metav1.SchemeGroupVersion) {
		metav1.AddToGroupVersion(options, version)
	}
	return &Codec{
		translator:  translator,
		serializers: scheme.Codecs.WithoutConversion(),
		options:     serializer.NewCodecFactory(options).WithoutConversion(),
		compressors: newCompressors(),
	}
}
