package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/state"
)

// record says who may use an image that this node has pulled.
type record struct {
	// Image is runtime.Image.ID.
	Image string `json:"image"`
	// Repositories are those that it was pulled from, such as docker.io/library/busybox.
	Repositories map[string]access `json:"repositories"`
}

// access is who may use what a repository gave. The zero value is nobody: everybody has
// to show the registry a credential.
type access struct {
	// Everybody: the registry gave it to nobody in particular, or to the node.
	Everybody bool           `json:"everybody,omitempty"`
	Secrets   []secretAccess `json:"secrets,omitempty"`
}

// secretAccess is a Secret whose credential the registry took. Hash tells its user and
// password from others, without saying what they are.
type secretAccess struct {
	UID       types.UID `json:"uid"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Hash      string    `json:"hash"`
}

func accessOf(c runtime.Credential) secretAccess {
	h := sha256.New()
	for _, text := range []string{c.Username, c.Password} {
		sum := sha256.Sum256([]byte(text))
		h.Write(sum[:])
	}
	return secretAccess{UID: c.Secret.UID, Namespace: c.Secret.Namespace, Name: c.Secret.Name, Hash: hex.EncodeToString(h.Sum(nil))}
}

// maxSecrets bounds what is remembered of one repository, as upstream.
const maxSecrets = 100

// with is a with one more that may use the image; nil is everybody.
func (a access) with(c *runtime.Credential) access {
	if a.Everybody || c == nil || c.Secret == nil {
		return access{Everybody: true}
	}
	added := accessOf(*c)
	if slices.Contains(a.Secrets, added) {
		return a
	}
	others := slices.DeleteFunc(slices.Clone(a.Secrets), func(s secretAccess) bool { return s.sameSecret(added) })
	if len(others) >= maxSecrets {
		others = others[1:]
	}
	return access{Secrets: append(others, added)}
}

func (s secretAccess) sameSecret(o secretAccess) bool {
	return s.UID == o.UID && s.Namespace == o.Namespace && s.Name == o.Name
}

// admits says whether one of the credentials proves access: the same user and password,
// or the same Secret, whose content may have changed since. It returns the one that does.
func (a access) admits(credentials []runtime.Credential) (*runtime.Credential, bool) {
	if a.Everybody {
		return nil, true
	}
	for i := range credentials {
		if credentials[i].Secret == nil {
			continue
		}
		shown := accessOf(credentials[i])
		if slices.ContainsFunc(a.Secrets, func(s secretAccess) bool { return s.Hash == shown.Hash || s.sameSecret(shown) }) {
			return &credentials[i], true
		}
	}
	return nil, false
}

// Records keeps on disk who may use the images that this node has pulled. A file names
// each pull before it begins, so that an image whose pull was cut short by a crash does
// not count as one that somebody else has put here. Every file is written whole.
type Records struct {
	dir string

	mu sync.Mutex
	// pulling counts the pulls of each name in this process.
	pulling map[string]int
	// known are records that were read or written.
	known map[string]*record
}

// OpenRecords returns the records in dir, which it makes.
func OpenRecords(dir string) (*Records, error) {
	for _, sub := range []string{imagesFolder, pullsFolder} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of pulled images: %w", err)
		}
		if err := state.RemoveLeftovers(path); err != nil {
			return nil, fmt.Errorf("clearing the folder of pulled images: %w", err)
		}
	}
	return &Records{dir: dir, pulling: map[string]int{}, known: map[string]*record{}}, nil
}

const (
	imagesFolder = "images"
	pullsFolder  = "pulls"
)

// intent is the content of a file that names a pull.
type intent struct {
	Name string `json:"name"`
}

func (r *Records) imageFile(id string) string {
	return filepath.Join(r.dir, imagesFolder, strings.ReplaceAll(id, ":", "-")+".json")
}

func (r *Records) pullFile(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(r.dir, pullsFolder, hex.EncodeToString(sum[:])+".json")
}

// begin notes that name is about to be pulled.
func (r *Records) begin(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulling[name] == 0 {
		if err := write(r.pullFile(name), intent{name}); err != nil {
			return fmt.Errorf("noting the pull of %s: %w", name, err)
		}
	}
	r.pulling[name]++
	return nil
}

// pulled notes that the image came from repository with credential, nil for none.
func (r *Records) pulled(image, repository string, credential *runtime.Credential) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, err := r.readLocked(image)
	if err != nil || before == nil { // one that cannot be read counts for nothing
		before = &record{Image: image}
	}
	after := access{}.with(credential)
	if have, ok := before.Repositories[repository]; ok {
		after = have.with(credential)
		if have.equal(after) {
			return nil
		}
	}
	return r.writeLocked(image, before, repository, after)
}

func (a access) equal(b access) bool {
	return a.Everybody == b.Everybody && slices.Equal(a.Secrets, b.Secrets)
}

func (r *Records) writeLocked(image string, before *record, repository string, a access) error {
	after := &record{Image: image, Repositories: map[string]access{}}
	for name, have := range before.Repositories {
		after.Repositories[name] = have
	}
	if repository != "" {
		after.Repositories[repository] = a
	}
	if err := write(r.imageFile(image), after); err != nil {
		return fmt.Errorf("noting who may use image %s: %w", image, err)
	}
	r.known[image] = after
	return nil
}

// end forgets the pull that begin noted, when no other of the name is under way.
func (r *Records) end(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulling[name]--; r.pulling[name] > 0 {
		return nil
	}
	delete(r.pulling, name)
	return remove(r.pullFile(name))
}

// find returns the record of an image, nil when there is none, and whether this node has
// pulled the image, or tried to, under this name.
func (r *Records) find(image, name string) (*record, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, err := r.readLocked(image)
	if err != nil || found != nil {
		return found, true, err
	}
	if r.pulling[name] > 0 {
		return nil, true, nil
	}
	_, err = os.Lstat(r.pullFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return nil, true, err
}

func (r *Records) readLocked(image string) (*record, error) {
	if found := r.known[image]; found != nil {
		return found, nil
	}
	data, err := os.ReadFile(r.imageFile(image))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading who may use image %s: %w", image, err)
	}
	found := &record{}
	if err := json.Unmarshal(data, found); err != nil {
		return nil, fmt.Errorf("reading who may use image %s: %w", image, err)
	}
	r.known[image] = found
	return found, nil
}

// Prune removes the records of images that are gone, and takes note of pulls that a crash
// has cut short: an image that is here all the same was pulled by this node. It leaves
// alone what is newer than before.
func (r *Records) Prune(images []runtime.StoredImage, before time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	present, named := map[string]bool{}, map[string]string{}
	for _, image := range images {
		present[filepath.Base(r.imageFile(image.ID))] = true
		for _, name := range slices.Concat(image.Names, image.Digests) {
			named[name] = image.ID
		}
	}
	errs := r.eachOld(pullsFolder, before, func(path string) error { return r.settleLocked(path, named) })
	return errors.Join(errs, r.eachOld(imagesFolder, before, func(path string) error {
		if present[filepath.Base(path)] {
			return nil
		}
		r.known = map[string]*record{}
		return remove(path)
	}))
}

// settleLocked ends the pull that a file names unless it is under way.
func (r *Records) settleLocked(path string, named map[string]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the note of a pull: %w", err)
	}
	var i intent
	if err := json.Unmarshal(data, &i); err != nil {
		return remove(path) // it says nothing to anybody
	}
	if r.pulling[i.Name] > 0 {
		return nil
	}
	if image := named[i.Name]; image != "" {
		have, err := r.readLocked(image)
		if err != nil {
			return err
		}
		if have == nil {
			if err := r.writeLocked(image, &record{}, "", access{}); err != nil {
				return err
			}
		}
	}
	return remove(path)
}

func (r *Records) eachOld(folder string, before time.Time, do func(path string) error) error {
	entries, err := os.ReadDir(filepath.Join(r.dir, folder))
	if err != nil {
		return fmt.Errorf("listing pulled images: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.ModTime().Before(before) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, do(filepath.Join(r.dir, folder, entry.Name())))
	}
	return errors.Join(errs...)
}

func write(path string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return state.WriteFile(path, data, 0o600)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
