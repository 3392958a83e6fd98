package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// probeChain is where Try puts a rule. A process that dies in Try leaves it, and the next
// Apply removes it with all chains that are not wanted.
const probeChain = ChainPrefix + "PROBE"

// Try returns an error when the kernel or the programs do not take a rule of a table. It
// puts the rule where no packet passes, and takes it away again.
func Try(ctx context.Context, executor Executor, table Table, rule Rule) error {
	var b bytes.Buffer
	b.WriteString("*" + string(table) + "\n:" + probeChain + " - [0:0]\n")
	newWantedChain(Chain{Table: table, Name: probeChain, Rules: []Rule{rule}}).writeRules(&b)
	b.WriteString("COMMIT\n")
	if err := executor.Restore(ctx, b.Bytes()); err != nil {
		return fmt.Errorf("trying %q: %w", rule.Match, err)
	}
	remove := fmt.Sprintf("*%s\n:%s - [0:0]\n-X %[2]s\nCOMMIT\n", table, probeChain)
	if err := executor.Restore(ctx, []byte(remove)); err != nil {
		return errors.Join(fmt.Errorf("removing the chain %s of a trial", probeChain), err)
	}
	return nil
}
