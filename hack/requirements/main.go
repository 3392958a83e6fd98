// Command requirements keeps docs/requirements.tsv honest: every promise made to
// users has one line there, and a line that claims to work names the tests that
// show it. `check` fails when a named test does not exist; `counts` prints how many
// rows are in which state; `missing -source DIR` compares with the source tables.
package main

import (
	"fmt"
	"os"
)

const usage = `usage: requirements check | counts | missing DIR

  check        every line of docs/requirements.tsv is well-formed and each test it names exists
  counts       rows by source file and status
  missing DIR  rows of the requirement tables in DIR that have no line, and lines without a row
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "requirements:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	rows, err := readRows("docs/requirements.tsv")
	if err != nil {
		return err
	}
	switch {
	case args[0] == "check" && len(args) == 1:
		return check(rows, ".")
	case args[0] == "counts" && len(args) == 1:
		fmt.Print(counts(rows))
		return nil
	case args[0] == "missing" && len(args) == 2:
		return compareWithSource(rows, args[1])
	}
	return fmt.Errorf("unknown command %q\n%s", args, usage)
}
