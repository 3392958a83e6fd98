package convert

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse reads a stream of documents. JSON is read as JSON where it is: its strings have
// escapes that YAML does not know.
func parse(l lines) (*document, error) {
	if start := bytes.TrimLeft(l.content, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return parseFlow(l)
	}
	return parseYAML(l)
}

// parseFlow reads what may be JSON or a flow mapping of YAML: if it is neither, the
// parser that got further knows what is wrong.
func parseFlow(l lines) (*document, error) {
	doc, jsonErr := parseJSON(l)
	if jsonErr == nil {
		return doc, nil
	}
	doc, yamlErr := parseYAML(l)
	if yamlErr == nil {
		return doc, nil
	}
	if located(jsonErr, "").Line > located(yamlErr, "").Line {
		return nil, jsonErr
	}
	return nil, yamlErr
}

func parseYAML(l lines) (*document, error) {
	p := &yamlParser{lines: l, anchors: map[*yaml.Node]*node{}, doc: &document{}}
	decoder := yaml.NewDecoder(bytes.NewReader(l.content))
	for {
		var root yaml.Node
		err := decoder.Decode(&root)
		if errors.Is(err, io.EOF) {
			return p.doc, nil
		}
		if err != nil {
			return nil, syntaxError(l.content, err)
		}
		for _, content := range root.Content {
			n, err := p.convert(content)
			if err != nil {
				return nil, err
			}
			p.doc.roots = append(p.doc.roots, n)
		}
	}
}

var yamlErrorLine = regexp.MustCompile(`^line (\d+): `)

// syntaxError gives a parser's error a line, and a hint about the usual reason.
func syntaxError(content []byte, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	problem := &Error{}
	if found := yamlErrorLine.FindStringSubmatch(message); found != nil {
		problem.Line, _ = strconv.Atoi(found[1]) // digits by the expression
		message = strings.TrimPrefix(message, found[0])
	}
	problem.Message = "is not YAML: " + message
	if bytes.Contains(content, []byte("{{")) {
		problem.Message += "; if it is a Helm template, " + rendered
	}
	return problem
}

const rendered = "convert the rendered output (helm template … | keelson convert -)"

func templateError(line int) error {
	return &Error{Line: line, Message: "this is a template and no manifest: " + rendered}
}

type yamlParser struct {
	lines   lines
	anchors map[*yaml.Node]*node
	doc     *document
}

func (p *yamlParser) convert(from *yaml.Node) (*node, error) {
	n := &node{line: from.Line, from: p.lines.offset(from.Line, from.Column), anchored: from.Anchor != ""}
	p.anchors[from] = n
	switch from.Kind {
	case yaml.MappingNode:
		n.kind = mapping
		return n, p.members(n, from)
	case yaml.SequenceNode:
		n.kind = sequence
		for _, item := range from.Content {
			child, err := p.convert(item)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
		return n, nil
	case yaml.AliasNode:
		n.kind, n.target = alias, p.anchors[from.Alias]
		n.to = n.from + len("*") + len(from.Value)
		p.doc.aliases = append(p.doc.aliases, n)
		return n, nil
	default:
		p.scalar(n, from)
		return n, nil
	}
}

func (p *yamlParser) members(n *node, from *yaml.Node) error {
	for i := 0; i+1 < len(from.Content); i += 2 {
		if isTemplate(from, from.Content[i]) {
			return templateError(from.Line)
		}
		key, err := p.convert(from.Content[i])
		if err != nil {
			return err
		}
		value, err := p.convert(from.Content[i+1])
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key: key, value: value})
	}
	return nil
}

// isTemplate: "{{ .Values.x }}" without quotes is, to YAML, a mapping whose key is a
// mapping.
func isTemplate(from, key *yaml.Node) bool {
	return from.Style&yaml.FlowStyle != 0 && key.Kind == yaml.MappingNode && key.Style&yaml.FlowStyle != 0
}

// scalar finds out where the value is and how it is written. A value whose end cannot be
// told gets an empty place.
func (p *yamlParser) scalar(n *node, from *yaml.Node) {
	n.text, n.isString = from.Value, from.ShortTag() == "!!str"
	n.from = p.skipProperties(n.from, from)
	n.line = p.lines.line(n.from)
	n.to = n.from
	rest := p.lines.content[n.from:]
	switch {
	case from.Style&yaml.DoubleQuotedStyle != 0:
		n.style, n.to = doubleQuoted, n.from+doubleQuotedLength(rest)
	case from.Style&yaml.SingleQuotedStyle != 0:
		n.style, n.to = singleQuoted, n.from+singleQuotedLength(rest)
	case from.Style&yaml.LiteralStyle != 0:
		n.style = literal
	case from.Style&yaml.FoldedStyle != 0:
		n.style = folded
	case bytes.HasPrefix(rest, []byte(from.Value)):
		n.to = n.from + len(from.Value)
	}
}

// skipProperties steps over the anchor and the tag in front of a value.
func (p *yamlParser) skipProperties(at int, from *yaml.Node) int {
	if from.Anchor == "" && from.Style&yaml.TaggedStyle == 0 {
		return at
	}
	content := p.lines.content
	for at < len(content) && (content[at] == '&' || content[at] == '!') {
		end := bytes.IndexAny(content[at:], " \t\r\n")
		if end < 0 {
			return len(content)
		}
		at += end
		for at < len(content) && strings.IndexByte(" \t\r\n", content[at]) >= 0 {
			at++
		}
	}
	return at
}

// doubleQuotedLength is the length of the quoted string that s begins with.
func doubleQuotedLength(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

func singleQuotedLength(s []byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			i++
			continue
		}
		return i + 1
	}
	return 0
}
