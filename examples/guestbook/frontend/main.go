// Command frontend is the web page of the Guestbook example: it writes to the Redis
// master and reads from a replica.
//
//	GET /?cmd=set&key=K&value=V   {"message":"Updated"}
//	GET /?cmd=get&key=K           {"data":"V"}
//	GET /                         the page
//
// GET_HOSTS_FROM=env takes the addresses from the Service environment variables;
// anything else uses the names redis-master and redis-slave.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
)

//go:embed page.html
var page []byte

// redisTimeout bounds one request to Redis, connecting included.
const redisTimeout = 3 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{
		Addr:              ":80",
		Handler:           guestbook{master: address("redis-master", "REDIS_MASTER"), replica: address("redis-slave", "REDIS_SLAVE")},
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() {
		<-ctx.Done()
		shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(shutdown); err != nil {
			log.Print("Requests cut off at shutdown: ", err)
		}
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// address is where a Redis Service answers: host:port.
func address(name, variable string) string {
	if os.Getenv("GET_HOSTS_FROM") == "env" {
		return net.JoinHostPort(os.Getenv(variable+"_SERVICE_HOST"), os.Getenv(variable+"_SERVICE_PORT"))
	}
	return net.JoinHostPort(name, "6379")
}

// guestbook serves the page and its two commands.
type guestbook struct {
	master, replica string
}

func (g guestbook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch query.Get("cmd") {
	case "":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // the client is gone: nobody to tell
	case "set":
		_, err := command(r.Context(), g.master, "SET", query.Get("key"), query.Get("value"))
		answer(w, map[string]string{"message": "Updated"}, err)
	default:
		value, err := redis.String(command(r.Context(), g.replica, "GET", query.Get("key")))
		if errors.Is(err, redis.ErrNil) {
			value, err = "", nil
		}
		answer(w, map[string]string{"data": value}, err)
	}
}

// command runs one Redis command on a connection of its own, so that each request
// is balanced over the replicas anew.
func command(ctx context.Context, address, name string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	conn, err := redis.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the answer is here already
	return redis.DoContext(conn, ctx, name, args...)
}

func answer(w http.ResponseWriter, body map[string]string, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		body = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}
