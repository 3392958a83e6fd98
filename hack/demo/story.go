package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/examples/guestbook/images"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// pollInterval is how often a condition is looked at again.
const pollInterval = 200 * time.Millisecond

// defaultRegistryHost is the registry that the manifests name.
const defaultRegistryHost = "localhost:5557"

// demo is one run of the story.
type demo struct {
	options
	out io.Writer

	registry *imagebuild.Registry
	page     string // URL of the frontend's NodePort
	message  string
}

type step struct {
	title string
	run   func(context.Context) error
}

func (d *demo) steps() []step {
	return []step{
		{"Assemble the images (Redis from Debian's package, the page from its source) and push them to a local registry", d.pushImages},
		{"Apply the Guestbook: 3 ReplicationControllers, 3 Services", d.apply},
		{"Wait until 1 master, 2 replicas and 3 frontends are ready", d.waitReady},
		{"Look: kubectl get keelson", d.look},
		{"Post a message through the NodePort", d.post},
		{"Read it back through a replica", d.readBack},
		{"Kill a frontend Pod and wait for its replacement", d.killPod},
		{"Read the message again", d.readBack},
	}
}

func (d *demo) pushImages(ctx context.Context) error {
	registry, err := imagebuild.StartRegistry(d.options.registry, nil)
	if err != nil {
		return fmt.Errorf("%w (another address: make demo DEMO_FLAGS='--registry 127.0.0.1:PORT')", err)
	}
	d.registry = registry
	refs, err := images.Push(ctx, registry, d.root)
	for _, ref := range refs {
		d.say(ref)
	}
	return err
}

func (d *demo) apply(ctx context.Context) error {
	_, port, _ := strings.Cut(d.registry.Host, ":")
	for _, name := range []string{"redis-master", "redis-slave", "frontend"} {
		manifest, err := os.ReadFile(filepath.Join(d.root, "examples/guestbook", name+".yaml"))
		if err != nil {
			return err
		}
		here := strings.ReplaceAll(string(manifest), defaultRegistryHost, "localhost:"+port)
		out, err := d.runWith(ctx, here, "apply", "-f", "-")
		d.say(out)
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) waitReady(ctx context.Context) error {
	for name, replicas := range map[string]int{"redis-master": 1, "redis-slave": 2, "frontend": 3} {
		if err := d.waitReplicas(ctx, name, replicas); err != nil {
			return err
		}
		d.say(fmt.Sprintf("%s: %d ready", name, replicas))
	}
	return nil
}

func (d *demo) waitReplicas(ctx context.Context, name string, want int) error {
	return poll(ctx, func() error {
		out, err := d.run(ctx, "get", "krc", name, "-o", "jsonpath={.status.readyReplicas}/{.status.replicas}")
		if err == nil && out != fmt.Sprintf("%d/%d", want, want) {
			err = fmt.Errorf("%s has %s ready", name, out)
		}
		return err
	})
}

func (d *demo) look(ctx context.Context) error {
	out, err := d.run(ctx, "get", "keelson", "-A")
	d.say(out)
	return err
}

func (d *demo) post(ctx context.Context) error {
	port, err := d.run(ctx, "get", "ksvc", "frontend", "-o", "jsonpath={.spec.ports[0].nodePort}")
	if err != nil {
		return err
	}
	d.page = "http://127.0.0.1:" + port + "/"
	d.message = "Hello from " + strconv.FormatInt(time.Now().UnixMilli(), 36)
	return poll(ctx, func() error {
		answer, err := d.ask(ctx, url.Values{"cmd": {"set"}, "key": {"messages"}, "value": {d.message}})
		if err == nil && answer["message"] != "Updated" {
			err = fmt.Errorf("the page answered %v", answer)
		}
		if err == nil {
			d.say(fmt.Sprintf("%s?cmd=set… answered %q", d.page, answer["message"]))
		}
		return err
	})
}

func (d *demo) readBack(ctx context.Context) error {
	return poll(ctx, func() error {
		answer, err := d.ask(ctx, url.Values{"cmd": {"get"}, "key": {"messages"}})
		if err == nil && answer["data"] != d.message {
			err = fmt.Errorf("the replica holds %q, want %q", answer["data"], d.message)
		}
		if err == nil {
			d.say(fmt.Sprintf("%s?cmd=get… answered %q", d.page, answer["data"]))
		}
		return err
	})
}

func (d *demo) killPod(ctx context.Context) error {
	victim, err := d.run(ctx, "get", "kpo", "-l", "name=frontend", "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		return err
	}
	out, err := d.run(ctx, "delete", "kpo", victim)
	d.say(out)
	if err != nil {
		return err
	}
	if err := d.waitReplicas(ctx, "frontend", 3); err != nil {
		return err
	}
	out, err = d.run(ctx, "get", "kpo", "-l", "name=frontend")
	d.say(out)
	if err == nil && strings.Contains(out, victim) {
		err = fmt.Errorf("%s is still there", victim)
	}
	return err
}

// ask sends one request to the page on a connection of its own.
func (d *demo) ask(ctx context.Context, query url.Values) (map[string]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.page+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer := map[string]string{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %v", response.Status, answer)
	}
	return answer, nil
}

// explain shows what a person would look at when a step failed.
func (d *demo) explain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pods, _ := d.run(ctx, "get", "keelson", "-A", "-o", "wide")
	events, _ := d.run(ctx, "get", "events", "--sort-by=.lastTimestamp")
	return fmt.Errorf("the cluster at that moment:\n%s\nits events:\n%s", pods, events)
}

func (d *demo) closing() string {
	return fmt.Sprintf(`
The Guestbook runs: open %s
Look around:   %s --kubeconfig %s get keelson -A
Container logs: /var/log/pods/
Stop it all:   make down
`, d.page, d.kubectl, d.kubeconfig)
}

func (d *demo) say(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprint(d.out, "   ", line)
	}
	fmt.Fprintln(d.out)
}

func (d *demo) run(ctx context.Context, args ...string) (string, error) {
	return d.runWith(ctx, "", args...)
}

func (d *demo) runWith(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.kubectl, append([]string{"--kubeconfig", d.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// poll repeats try until it succeeds or ctx ends; the last failure is the reason.
func poll(ctx context.Context, try func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
