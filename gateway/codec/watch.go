package codec

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
)

// WriteWatch writes the frames of a watch, each flushed at once, until the answer's
// body ends or the client is gone. A slow client stops it in a write, so that nothing
// piles up here. A stream that breaks in the middle of a frame is returned as an error
// and ends like one that timed out: the client watches again from what it has seen.
func (c *Codec) WriteWatch(w http.ResponseWriter, r *http.Request, f Format, _ table.Row, answer *http.Response) error {
	if err := c.checkAnswer(answer); err != nil {
		c.WriteError(w, r, err)
		return err
	}
	appendFrame, mediaType := appendJSONFrame, runtime.ContentTypeJSON
	if f.MediaType == runtime.ContentTypeProtobuf {
		appendFrame, mediaType = protobufFrame, runtime.ContentTypeProtobuf+";stream=watch"
	}
	copyHeaders(w.Header(), answer.Header)
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	if err := flusher.Flush(); err != nil {
		return fmt.Errorf("begin a watch: %w", err)
	}
	var frame []byte
	for event, err := range c.translator.WatchEvents(answer.Body) {
		if err != nil {
			return ended(r.Context(), err)
		}
		if frame, err = appendFrame(frame[:0], event); err != nil {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return ended(r.Context(), fmt.Errorf("write a frame of a watch: %w", err))
		}
		if err := flusher.Flush(); err != nil {
			return ended(r.Context(), fmt.Errorf("write a frame of a watch: %w", err))
		}
	}
	return nil
}

// ended is err unless it is the client that has left.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func appendJSONFrame(dst []byte, event translate.WatchEvent) ([]byte, error) {
	dst = append(dst, `{"type":`...)
	dst, err := jsontext.AppendQuote(dst, event.Type)
	if err != nil {
		return dst, fmt.Errorf("write the type of a watch event: %w", err)
	}
	dst = append(dst, `,"object":`...)
	dst = append(dst, event.Object...)
	return append(dst, "}\n"...), nil
}

// protobufFrame is a metav1.WatchEvent after its length; the object in it is a whole
// message of its own.
func protobufFrame(dst []byte, event translate.WatchEvent) ([]byte, error) {
	obj, err := decodeTyped(event.Object)
	if err != nil {
		return dst, err
	}
	encoded, err := runtime.Encode(protobufEncoder(), obj)
	if err != nil {
		return dst, fmt.Errorf("encode an object of a watch: %w", err)
	}
	frame := metav1.WatchEvent{Type: event.Type, Object: runtime.RawExtension{Raw: encoded}}
	length := frame.Size()
	dst = binary.BigEndian.AppendUint32(dst, uint32(length))
	start := len(dst)
	dst = append(dst, make([]byte, length)...)
	if _, err := frame.MarshalTo(dst[start:]); err != nil {
		return dst, fmt.Errorf("encode a frame of a watch: %w", err)
	}
	return dst, nil
}
