// Command testserver is the one program of the test images: a server whose answers
// say who answered and who asked, a client that prints them, and ways to end.
//
//	testserver http :8080            answers "<hostname> <client address>"
//	testserver tcp :9000             the same for a plain connection
//	testserver udp :9000             the same for each datagram
//	testserver fetch URL             prints the body; exit code 1 when there is none
//	testserver api PATH              asks the Kubernetes API that Pods find, with $TOKEN,
//	                                 trusting $CA (PEM), or with what Pods have mounted;
//	                                 exit code 1 unless it answers 200
//	testserver dial tcp|udp HOST:PORT  sends a line, prints the answer
//	testserver resolve host|cname|srv|addr NAME  prints what the Pod's DNS answers, sorted;
//	                                 exit code 1 when there is nothing
//	testserver lookups NAME DURATION  asks for NAME without a pause, eight at a time, and
//	                                 prints how often and how many failed, each with what was
//	                                 asked and answered for it
//	testserver eat 64                holds that many MiB, then sleeps
//	testserver stubborn              ignores SIGTERM
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// clientTimeout bounds one question of fetch and dial.
const clientTimeout = 3 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	withOne := map[string]func(context.Context, string) error{
		"http": serveHTTP, "tcp": serveTCP, "udp": serveUDP, "fetch": fetch, "api": askAPI, "eat": eat,
	}
	if len(args) == 0 {
		return errors.New("no command: http, tcp, udp, fetch, api, dial, resolve, lookups, eat or stubborn")
	}
	switch command, args := args[0], args[1:]; {
	case len(args) == 1 && withOne[command] != nil:
		return withOne[command](ctx, args[0])
	case command == "dial" && len(args) == 2:
		return dial(ctx, args[0], args[1])
	case command == "resolve" && len(args) == 2:
		return resolve(ctx, args[0], args[1])
	case command == "lookups" && len(args) == 2:
		return lookups(ctx, args[0], args[1])
	case command == "stubborn" && len(args) == 0:
		return beStubborn()
	default:
		return fmt.Errorf("unknown command %q with %d arguments", command, len(args))
	}
}

func answerTo(client net.Addr) string {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = err.Error()
	}
	return fmt.Sprintf("%s %s\n", hostname, client)
}

func serveHTTP(ctx context.Context, address string) error {
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: clientTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hostname, _ := os.Hostname()
			fmt.Fprintf(w, "%s %s\n", hostname, r.RemoteAddr)
		}),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func serveTCP(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, answerTo(conn.RemoteAddr()))
		}()
	}
}

func serveUDP(ctx context.Context, address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	buffer := make([]byte, 1500)
	for {
		_, client, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo([]byte(answerTo(client)), client); err != nil {
			return err
		}
	}
}

func fetch(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func askAPI(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return err
	}
	token, err := credential("TOKEN", "token")
	if err != nil {
		return err
	}
	authorities, err := credential("CA", "ca.crt")
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM([]byte(authorities)) {
		return errors.New("no certificate to trust")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// credential is what the environment says, else the file that Pods have mounted.
func credential(variable, file string) (string, error) {
	if value := os.Getenv(variable); value != "" {
		return value, nil
	}
	content, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/" + file)
	return string(content), err
}

func dial(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{Timeout: clientTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(line)
	return err
}

func eat(ctx context.Context, mebibytes string) error {
	n, err := strconv.Atoi(mebibytes)
	if err != nil {
		return err
	}
	held := make([]byte, n<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	fmt.Println("holding", len(held), "bytes")
	<-ctx.Done()
	return nil
}

func beStubborn() error {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("ignoring SIGTERM")
	select {}
}
