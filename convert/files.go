package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Stdin is the argument that means standard input, named so in errors.
const (
	Stdin     = "-"
	stdinName = "standard input"
)

// Files is one run over files, directories and standard input.
type Files struct {
	Converter *Converter
	// InPlace writes the files; otherwise everything goes to Out, documents separated.
	InPlace bool
	In      io.Reader
	// Out gets the manifests, Notes warnings and what was written.
	Out, Notes io.Writer
}

// converted is one input with its result.
type converted struct {
	path string
	Result
}

// Run converts the arguments in their order; a directory stands for every .yaml, .yml
// and .json file below it, hidden ones and those of hidden directories excepted. Every
// bad input is reported, and then nothing is written.
func (f Files) Run(args []string) error {
	if f.InPlace && slices.Contains(args, Stdin) {
		return errors.New("--in-place: standard input (-) has no place; leave the flag out to write to standard output")
	}
	var (
		paths []string
		errs  []error
	)
	for _, arg := range args {
		found, err := expand(arg)
		paths, errs = append(paths, found...), append(errs, err)
	}
	results := make([]converted, 0, len(paths))
	for _, path := range unique(paths) {
		result, err := f.convert(path)
		results, errs = append(results, converted{path: path, Result: result}), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, r := range results {
		for _, warning := range r.Warnings {
			if _, err := fmt.Fprintf(f.Notes, "warning: %s\n", warning); err != nil {
				return fmt.Errorf("write a warning: %w", err)
			}
		}
	}
	if f.InPlace {
		return f.replace(results)
	}
	return f.print(results)
}

// expand returns the files that an argument stands for.
func expand(arg string) ([]string, error) {
	if arg == Stdin {
		return []string{arg}, nil
	}
	info, err := os.Stat(arg)
	if err != nil {
		return nil, fmt.Errorf("read what is to be converted: %w", err)
	}
	if !info.IsDir() {
		return []string{arg}, nil
	}
	var found []string
	err = filepath.WalkDir(arg, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && path != arg
		switch {
		case entry.IsDir() && hidden:
			return fs.SkipDir
		case !entry.IsDir() && !hidden && isManifest(path):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for manifests in %s: %w", arg, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json file in this directory", arg)
	}
	return found, nil
}

func isManifest(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) || isKustomizationFile(path)
}

// unique drops what was named before: a file twice in the output is an object twice.
func unique(paths []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(paths, func(path string) bool {
		key := path
		if path != Stdin {
			key = filepath.Clean(path)
		}
		again := seen[key]
		seen[key] = true
		return again
	})
}

func (f Files) convert(path string) (Result, error) {
	if path == Stdin {
		content, err := io.ReadAll(f.In)
		if err != nil {
			return Result{}, fmt.Errorf("read standard input: %w", err)
		}
		return f.Converter.Convert(stdinName, content)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Result{}, fmt.Errorf("read what is to be converted: %w", err)
	}
	return f.Converter.Convert(path, content)
}

// print writes all documents as one stream.
func (f Files) print(results []converted) error {
	var out bytes.Buffer
	for _, r := range results {
		if out.Len() > 0 {
			if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
				out.WriteByte('\n')
			}
			if !bytes.HasPrefix(r.Content, []byte("---")) {
				out.WriteString("---\n")
			}
		}
		out.Write(r.Content)
	}
	if _, err := f.Out.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write the converted manifests: %w", err)
	}
	return nil
}

// replace writes the files that changed.
func (f Files) replace(results []converted) error {
	for _, r := range results {
		if r.Changes == 0 {
			continue
		}
		if err := replaceFile(r.path, r.Content); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(f.Notes, "%s: %d changed\n", r.path, r.Changes); err != nil {
			return fmt.Errorf("write what was changed: %w", err)
		}
	}
	return nil
}

// replaceFile exchanges the content of a file, or of the one a link leads to, by a
// rename: nobody sees half of it.
func replaceFile(path string, content []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("follow the links of a file to write: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at the file to write: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return fmt.Errorf("create a temporary file beside %s: %w", path, err)
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(info.Mode().Perm()), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
