package local

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// arguments are those of kubectl, divided into what chooses the caller's cluster and
// credentials, which the gateway takes, and the rest, which kubectl gets.
type arguments struct {
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
	rest       []string
	// direct: the command is about the kubeconfig or about kubectl itself. It runs
	// without a gateway, with all arguments.
	direct bool
}

// directCommands never ask a server, or edit the very file that chooses it.
var directCommands = []string{"completion", "config", "help", "kustomize", "options", "plugin"}

// divide reads arguments as kubectl does: flags stand anywhere before "--".
func divide(args []string) (arguments, error) {
	a := arguments{}
	flags := connectionFlags(&a)
	words := commandWords(flags, args)
	if len(words) > 0 && slices.Contains(directCommands, words[0]) {
		return arguments{rest: args, direct: true}, nil
	}
	if namesSubjects(words) {
		hide(flags, "user") // here it names whom to bind, not who calls
	}
	var taken []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			a.rest = append(a.rest, args[i:]...)
			break
		}
		flag, value, hasValue := parseFlag(flags, args[i])
		switch {
		case flag == nil:
			a.rest = append(a.rest, args[i])
		case hasValue:
			taken = append(taken, "--"+flag.Name+"="+value)
		case flag.NoOptDefVal != "":
			taken = append(taken, "--"+flag.Name)
		case i+1 == len(args):
			return a, fmt.Errorf("flag needs an argument: %s", args[i])
		default:
			i++
			taken = append(taken, "--"+flag.Name+"="+args[i])
		}
	}
	if err := flags.Parse(taken); err != nil {
		return a, err
	}
	return a, nil
}

// connectionFlags are kubectl's flags that say which server is talked to, and as whom.
func connectionFlags(a *arguments) *pflag.FlagSet {
	flags := pflag.NewFlagSet("kubectl", pflag.ContinueOnError)
	flags.StringVar(&a.kubeconfig, clientcmd.RecommendedConfigPathFlag, "", "")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	// These work as well, or only, on kubectl's side.
	names.Timeout.LongName = ""
	names.ContextOverrideFlags.Namespace.LongName, names.ContextOverrideFlags.Namespace.ShortName = "", ""
	clientcmd.BindOverrideFlags(&a.overrides, flags, names)
	flags.Var(extraValue{&a.overrides.AuthInfo}, "as-user-extra", "")
	return flags
}

func hide(flags *pflag.FlagSet, name string) {
	flags.Lookup(name).Name += " " // no argument can be called so
}

// parseFlag recognises one of flags in an argument: --name, --name=value, -s, -svalue.
func parseFlag(flags *pflag.FlagSet, arg string) (flag *pflag.Flag, value string, hasValue bool) {
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, hasValue = strings.Cut(name, "=")
		return lookup(flags, name), value, hasValue
	}
	if short, ok := strings.CutPrefix(arg, "-s"); ok { // the only one: --server
		return lookup(flags, "server"), strings.TrimPrefix(short, "="), short != ""
	}
	return nil, "", false
}

func lookup(flags *pflag.FlagSet, name string) *pflag.Flag {
	if flag := flags.Lookup(name); flag != nil && flag.Name == name {
		return flag
	}
	return nil
}

// valued are kubectl's flags, other than those above, that may stand before the
// command and take their value from the next argument.
var valued = []string{"-n", "--namespace", "-v", "--v", "--vmodule", "--cache-dir", "--kuberc", "--log-flush-frequency", "--profile", "--profile-output", "--request-timeout"}

// commandWords are the arguments that are no flags and no values of such flags: first
// the command, then its subcommand or what it is about.
func commandWords(flags *pflag.FlagSet, args []string) []string {
	var words []string
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		if !strings.HasPrefix(args[i], "-") {
			words = append(words, args[i])
			continue
		}
		flag, _, hasValue := parseFlag(flags, args[i])
		if flag != nil && !hasValue && flag.NoOptDefVal == "" || slices.Contains(valued, args[i]) {
			i++
		}
	}
	return words
}

// namesSubjects: these commands have a --user flag of their own.
func namesSubjects(words []string) bool {
	if len(words) < 2 {
		return false
	}
	about := func(what ...string) bool {
		return slices.ContainsFunc(words[1:], func(word string) bool { return slices.Contains(what, word) })
	}
	switch words[0] {
	case "create":
		return about("rolebinding", "clusterrolebinding")
	case "set":
		return about("subject")
	}
	return false
}

// extraValue is kubectl's --as-user-extra=key=value.
type extraValue struct{ to *clientcmdapi.AuthInfo }

func (v extraValue) String() string { return "" }
func (v extraValue) Type() string   { return "key=value" }
func (v extraValue) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not key=value", text)
	}
	if v.to.ImpersonateUserExtra == nil {
		v.to.ImpersonateUserExtra = map[string][]string{}
	}
	v.to.ImpersonateUserExtra[key] = append(v.to.ImpersonateUserExtra[key], value)
	return nil
}

// clientConfig is the caller's configuration that the arguments choose.
func (a *arguments) clientConfig() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &a.overrides)
}
