package filters

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
)

// checkHeaders says what is wrong with the headers of a request. An identity comes
// from a certificate or a token, never from X-Remote-* headers: a proxy that sends
// them believes that they count, and its own rights would be used for everybody.
// A Connection header that names others would have them removed by the next proxy.
func checkHeaders(r *http.Request) error {
	for name := range r.Header {
		if hasPrefixFold(name, "X-Remote-") {
			return fmt.Errorf("the header %s is not accepted: this server takes identities from client certificates and bearer tokens only", truncate(name, 64))
		}
		// Some servers take an underscore for a dash.
		if dashed := strings.ReplaceAll(name, "_", "-"); dashed != name &&
			(hasPrefixFold(dashed, "X-Remote-") || hasPrefixFold(dashed, "Impersonate-") || strings.EqualFold(dashed, "Transfer-Encoding") || strings.EqualFold(dashed, "Content-Length")) {
			return fmt.Errorf("the header %s is not accepted: it looks like %s", truncate(name, 64), truncate(textproto.CanonicalMIMEHeaderKey(dashed), 64))
		}
	}
	for _, single := range []string{"Authorization", "Impersonate-User", "Impersonate-Uid", "Content-Type", "Host"} {
		if len(r.Header[single]) > 1 {
			return fmt.Errorf("the header %s is there %d times", single, len(r.Header[single]))
		}
	}
	return checkConnection(r)
}

func checkConnection(r *http.Request) error {
	for _, line := range r.Header["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			switch token = strings.ToLower(strings.TrimSpace(token)); token {
			case "", "keep-alive", "close", "upgrade", "te", "http2-settings":
			default:
				return fmt.Errorf("the Connection header names %q, which is no header of a single connection", truncate(token, 64))
			}
		}
	}
	// The server's parser leaves one encoding at most; "identity" and lists are refused
	// there. What is left is the one that it has decoded already.
	if len(r.TransferEncoding) > 0 && (len(r.TransferEncoding) != 1 || r.TransferEncoding[0] != "chunked") {
		return fmt.Errorf("the transfer encoding %q is not supported", r.TransferEncoding)
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
