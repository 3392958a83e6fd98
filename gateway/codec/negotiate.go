package codec

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1beta1 "k8s.io/apimachinery/pkg/apis/meta/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
)

// Format is what a client wants to read.
type Format struct {
	// MediaType is application/json, application/yaml or
	// application/vnd.kubernetes.protobuf.
	MediaType string
	// Convert is the kind that the client wants instead of the object's own: Table,
	// PartialObjectMetadata or PartialObjectMetadataList of meta.k8s.io; nil for none.
	Convert *schema.GroupVersionKind
	// Pretty: laid out for people.
	Pretty bool
	// Watch: the answer is a stream of frames.
	Watch bool
}

// UpstreamAccept is the Accept header to send to the API server for this format. The
// API server answers in JSON, and does the conversion.
func (f Format) UpstreamAccept() string {
	accept := runtime.ContentTypeJSON
	if f.Convert != nil {
		accept += ";as=" + f.Convert.Kind + ";v=" + f.Convert.Version + ";g=" + f.Convert.Group
	}
	if f.Pretty && f.MediaType == runtime.ContentTypeJSON && !f.Watch {
		accept += ";pretty=1"
	}
	return accept
}

// Negotiate says what the client wants to read, or fails with upstream's 406. watch:
// the answer will be a stream of frames.
func (c *Codec) Negotiate(r *http.Request, watch bool) (Format, error) {
	options, info, err := negotiation.NegotiateOutputMediaType(r, c.serializers, restrictions{})
	if err != nil {
		return Format{}, err
	}
	if watch {
		// Formats that cannot be a stream are passed over, and the error names the others.
		if _, err := negotiation.NegotiateOutputMediaTypeStream(r, c.serializers, restrictions{}); err != nil {
			return Format{}, err
		}
	}
	return Format{
		MediaType: info.MediaType,
		Convert:   options.Convert,
		Pretty:    info.PrettySerializer != nil && info.Serializer == info.PrettySerializer,
		Watch:     watch,
	}, nil
}

// restrictions are what upstream's resource endpoints allow besides plain objects.
type restrictions struct{}

func (restrictions) AllowsMediaTypeTransform(mimeType, mimeSubType string, target *schema.GroupVersionKind) bool {
	if target == nil {
		return true
	}
	if gv := target.GroupVersion(); gv != metav1.SchemeGroupVersion && gv != metav1beta1.SchemeGroupVersion {
		return false
	}
	switch target.Kind {
	case "Table":
		return mimeType == "application" && (mimeSubType == "json" || mimeSubType == "yaml")
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		return true
	}
	return false
}

func (restrictions) AllowsServerVersion(version string) bool {
	return version == metav1.SchemeGroupVersion.Version
}

func (restrictions) AllowsStreamSchema(name string) bool { return name == "watch" }
