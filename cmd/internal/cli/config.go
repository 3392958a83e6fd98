package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	logsapi "k8s.io/component-base/logs/api/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// ConfigAPIVersion is the apiVersion of every component's config file.
const ConfigAPIVersion = "config.keelson.dev/v1alpha1"

// decodeConfig reads a config file strictly: a field that nobody knows, or one
// that appears twice, is an error that names it. Options absent from the file
// keep their value.
func decodeConfig(data []byte, wantKind string, options any, logging *logsapi.LoggingConfiguration) error {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return fmt.Errorf("not valid YAML: %w", err)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(asJSON, &fields); err != nil {
		return errors.New("must hold one object with apiVersion, kind and settings")
	}
	if err := errors.Join(
		expect(fields, "apiVersion", ConfigAPIVersion),
		expect(fields, "kind", wantKind),
	); err != nil {
		return err
	}
	loggingJSON, hasLogging := fields["logging"]
	for _, envelope := range []string{"apiVersion", "kind", "logging"} {
		delete(fields, envelope)
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode the settings again: %w", err)
	}
	if err := decodeStrict(rest, options); err != nil {
		return err
	}
	if !hasLogging {
		return nil
	}
	if err := decodeStrict(loggingJSON, logging); err != nil {
		return fmt.Errorf("logging: %w", err)
	}
	return nil
}

func decodeStrict(data []byte, into any) error {
	strictErrs, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return fmt.Errorf("wrong value: %w", err)
	}
	return errors.Join(strictErrs...)
}

func expect(fields map[string]json.RawMessage, name, want string) error {
	raw, ok := fields[name]
	if !ok {
		return fmt.Errorf("%s is missing: write %s: %s", name, name, want)
	}
	var got string
	if err := json.Unmarshal(raw, &got); err != nil || got != want {
		return fmt.Errorf("%s is %s: this program reads %s", name, raw, want)
	}
	return nil
}
