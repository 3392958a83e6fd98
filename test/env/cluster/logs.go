package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// alarming lines are those that no log of Keelson's own processes may hold: a write
// that the policy of node agents refuses, a crash, a race.
var alarming = regexp.MustCompile(`is forbidden: ValidatingAdmissionPolicy|\bpanic\b|DATA RACE`)

// denied is how the API server words a missing right, with the quotes of a log line.
// A namespace that is being deleted "forbids" new objects in other words.
var denied = regexp.MustCompile(`(?: \\?"([^"\\ ]+)\\?" )?is forbidden: User \\?"([^"\\]+)\\?" cannot (\w+) resource \\?"([^"\\]+)\\?" in API group \\?"([^"\\]*)\\?" (?:in the namespace \\?"([^"\\]+)\\?"|at the cluster scope)`)

// ourUsers begin the names of our own processes. What others may not do is their
// affair: tests try it on purpose.
const ourUsers = "keelson:"

// right is what somebody was denied.
type right struct {
	user, verb, resource, group, namespace, name string
}

func (r right) String() string {
	return fmt.Sprintf("%s may not %s %s.%s %q in namespace %q", r.user, r.verb, r.resource, r.group, r.name, r.namespace)
}

// alarmsShown is how many lines of one log are told.
const alarmsShown = 5

// CheckLogs looks for alarming lines in the logs of Keelson's own processes, and for
// rights that they lack. An API server that has just started denies everything for a
// moment: what it would grant now was not missing.
func (c *Cluster) CheckLogs() error {
	rights, err := c.readLogs()
	errs := []error{err}
	for r := range rights {
		if err := c.checkRight(r); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Cluster) readLogs() (map[right]bool, error) {
	files, err := filepath.Glob(filepath.Join(c.DataDir, "logs", "keelson-*.log"))
	if err != nil {
		return nil, fmt.Errorf("find the logs: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no logs of Keelson's processes in %s", filepath.Join(c.DataDir, "logs"))
	}
	rights := map[right]bool{}
	var errs []error
	for _, file := range files {
		errs = append(errs, readLog(file, rights))
	}
	return rights, errors.Join(errs...)
}

// readLog collects the rights that were denied, and complains of alarming lines.
func readLog(file string, rights map[right]bool) error {
	log, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read a log: %w", err)
	}
	defer log.Close()
	var errs []error
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if alarming.Match(lines.Bytes()) && len(errs) < alarmsShown {
			errs = append(errs, fmt.Errorf("%s says: %s", filepath.Base(file), lines.Text()))
		}
		if m := denied.FindStringSubmatch(lines.Text()); m != nil && strings.HasPrefix(m[2], ourUsers) {
			rights[right{name: m[1], user: m[2], verb: m[3], resource: m[4], group: m[5], namespace: m[6]}] = true
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("read %s: %w", file, err))
	}
	return errors.Join(errs...)
}

// checkRight asks the API server whether the right is missing now.
func (c *Cluster) checkRight(r right) error {
	out, err := exec.Command(c.KubectlPath, append([]string{"--kubeconfig", c.Kubeconfig()}, canI(r)...)...).Output()
	var ended *exec.ExitError
	switch answer := strings.TrimSpace(string(out)); {
	case err == nil && answer == "yes":
		return nil
	case errors.As(err, &ended) && strings.HasPrefix(answer, "no"):
		if ends, err := c.endsWithPods(r); ends || err != nil {
			return err
		}
		return fmt.Errorf("a right is missing: %s", r)
	default:
		return fmt.Errorf("ask whether %s: answer %q, %w", r, answer, err)
	}
}

// endsWithPods tells whether a node had the right for a Pod in a Namespace that is gone or
// going: it comes a moment after the Pod and goes with the last one. An agent that is quicker
// than the right asks again.
func (c *Cluster) endsWithPods(r right) (bool, error) {
	if !r.ofPods() {
		return false, nil
	}
	phase, err := exec.Command(c.KubectlPath, "--kubeconfig", c.Kubeconfig(), "get", "namespace", r.namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}").Output()
	if err != nil {
		return false, fmt.Errorf("look for the Namespace of a right that is missing (%s): %w", r, err)
	}
	return string(phase) != "Active", nil
}

// ofPods says that r is one that a node has by its Pods (controllers/nodeaccess). All others
// it has anyway, and by its name only reads and tokens of what Pods name.
func (r right) ofPods() bool {
	if !strings.HasPrefix(r.user, keelsonv1.NodeUserPrefix) || r.namespace == "" {
		return false
	}
	named := r.name != "" && r.group == ""
	switch r.resource {
	case "configmaps", "secrets":
		return named && slices.Contains([]string{"get", "list", "watch"}, r.verb)
	case "serviceaccounts/token":
		return named && r.verb == "create"
	case "serviceaccounts":
		return named && r.verb == "get"
	case "podcertificaterequests":
		return r.group == certificatesv1.GroupName && r.verb == "create"
	default:
		return false
	}
}

// canI renders the question for kubectl.
func canI(r right) []string {
	resource, subresource, _ := strings.Cut(r.resource, "/")
	if r.group != "" {
		resource += "." + r.group
	}
	if r.name != "" {
		resource += "/" + r.name
	}
	args := []string{"auth", "can-i", r.verb, resource, "--as", r.user, "--as-group", "system:authenticated"}
	if subresource != "" {
		args = append(args, "--subresource", subresource)
	}
	if strings.HasPrefix(r.user, keelsonv1.NodeUserPrefix) {
		args = append(args, "--as-group", keelsonv1.NodesGroup)
	}
	if r.namespace != "" {
		return append(args, "--namespace", r.namespace)
	}
	return append(args, "--all-namespaces")
}
