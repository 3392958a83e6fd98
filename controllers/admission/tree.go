package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// tree is a JSON object as it was sent: numbers keep their spelling, values their
// types, right or wrong.
type tree map[string]any

func decodeTree(raw []byte) (tree, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var t tree
	if err := decoder.Decode(&t); err != nil {
		return nil, fmt.Errorf("decode the object: %w", err)
	}
	return t, nil
}

// toTree turns a typed value into its JSON object.
func toTree(v any) (tree, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return decodeTree(raw)
}

// child returns the object at key, or nil when there is none or it is something
// else. Reading from and deleting in a nil tree is fine.
func (t tree) child(key string) tree {
	switch c := t[key].(type) {
	case map[string]any:
		return c
	case tree:
		return c
	}
	return nil
}

// children returns the objects of the list at key; elements of another type are nil.
func (t tree) children(key string) []tree {
	list, _ := t[key].([]any)
	all := make([]tree, len(list))
	for i, element := range list {
		if c, ok := element.(map[string]any); ok {
			all[i] = c
		}
	}
	return all
}

func (t tree) text(key string) string {
	s, _ := t[key].(string)
	return s
}

// takeIf removes key when its value has the type T; a value of another type stays,
// for upstream to complain about.
func takeIf[T any](t tree, keys ...string) {
	for _, key := range keys {
		if _, ok := t[key].(T); ok {
			delete(t, key)
		}
	}
}
