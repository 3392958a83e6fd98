package staticpods

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Decode reads the Pods of a manifest: YAML or JSON, one document or several, each a Pod
// or a list of Pods, of version v1 or Keelson's. A field that no Pod has, or that stands
// twice, is an error that names it. Nothing is completed or judged.
func Decode(data []byte) ([]*keelsonv1.Pod, error) {
	var pods []*keelsonv1.Pod
	documents, err := split(data)
	if err != nil {
		return nil, err
	}
	for i, document := range documents {
		of := ""
		if len(documents) > 1 {
			of = fmt.Sprintf("document %d: ", i+1)
		}
		found, err := decodeObject(document)
		if err != nil {
			return nil, fmt.Errorf("%s%w", of, err)
		}
		pods = append(pods, found...)
	}
	return pods, nil
}

// split returns the documents of data as JSON, without those that hold nothing.
func split(data []byte) ([][]byte, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		return [][]byte{trimmed}, nil
	}
	var documents [][]byte
	reader := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the manifest: %w", err)
		}
		object, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return nil, fmt.Errorf("couldn't parse as pod: %w", err)
		}
		if text := string(bytes.TrimSpace(object)); text != "null" && text != "" {
			documents = append(documents, object)
		}
	}
}

// kindOf is what every object says of itself.
type kindOf struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Items      []json.RawMessage `json:"items"`
}

func decodeObject(data []byte) ([]*keelsonv1.Pod, error) {
	var head kindOf
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("couldn't parse as pod: %w", err)
	}
	ours := head.APIVersion == "v1" || head.APIVersion == keelsonv1.GroupVersion.String()
	switch {
	case ours && head.Kind == "Pod":
		pod, err := decodePod(data)
		if err != nil {
			return nil, err
		}
		return []*keelsonv1.Pod{pod}, nil
	case ours && head.Kind == "PodList", head.APIVersion == "v1" && head.Kind == "List":
		return decodeItems(head)
	case head.APIVersion == "" || head.Kind == "":
		return nil, errors.New("invalid pod: apiVersion and kind are needed, such as v1 and Pod")
	default:
		return nil, fmt.Errorf("invalid pod: apiVersion %q, kind %q: only Pods of version v1 can be static", head.APIVersion, head.Kind)
	}
}

func decodeItems(list kindOf) ([]*keelsonv1.Pod, error) {
	var pods []*keelsonv1.Pod
	for i, item := range list.Items {
		var head kindOf
		err := json.Unmarshal(item, &head)
		if err == nil && list.Kind == "List" && head.Kind != "Pod" {
			err = fmt.Errorf("invalid pod: kind %q: only Pods can be static", head.Kind)
		}
		var pod *keelsonv1.Pod
		if err == nil {
			pod, err = decodePod(item)
		}
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

func decodePod(data []byte) (*keelsonv1.Pod, error) {
	pod := &keelsonv1.Pod{}
	strict, err := kjson.UnmarshalStrict(data, pod)
	if err = errors.Join(append([]error{err}, strict...)...); err != nil {
		return nil, fmt.Errorf("couldn't parse as pod: %w", err)
	}
	if pod.Name == "" {
		return nil, errors.New("invalid pod: name is needed for the pod")
	}
	return pod, nil
}
