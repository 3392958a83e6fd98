// Package env computes the environment of a container: the variables that announce
// Services, those that the Pod names, and the $(NAME) references in values, command
// and args. It is pure; the variables are those of the moment at which a container
// starts and never change while it runs.
package env

import "strings"

// Expand replaces each $(NAME) for which lookup knows a value. $$ stands for one $,
// so $$(NAME) gives the text $(NAME). A reference without a value, and anything else
// that begins with $, stays as it is.
func Expand(text string, lookup func(name string) (string, bool)) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:i])
		text = text[i:]
		switch text[1] {
		case '$':
			out.WriteByte('$')
			text = text[2:]
		case '(':
			end := strings.IndexByte(text, ')')
			if end < 0 {
				out.WriteString(text)
				return out.String()
			}
			value, ok := lookup(text[2:end])
			if !ok {
				value = text[:end+1]
			}
			out.WriteString(value)
			text = text[end+1:]
		default:
			out.WriteByte('$')
			text = text[1:]
		}
	}
}
