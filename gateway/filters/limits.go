package filters

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

// Limits keep one client from taking the server away from the others. Watches and
// streams are not counted, and members of system:masters are never refused, as
// upstream. Zero switches a limit off.
type Limits struct {
	// ReadOnly and Mutating bound how many requests are answered at once.
	ReadOnly, Mutating int
	// UserRate and UserBurst bound how many requests per second one user may send.
	UserRate  float64
	UserBurst int
}

// maxUsers is how many users' rates are remembered.
const maxUsers = 4096

// WithLimits enforces limits. It comes after authentication.
func WithLimits(next http.Handler, limits Limits, metrics *Metrics, c clock.PassiveClock) http.Handler {
	l := &limiter{next: next, limits: limits, metrics: metrics, clock: c, users: lru.New(maxUsers)}
	if limits.ReadOnly > 0 {
		l.readOnly = make(chan struct{}, limits.ReadOnly)
	}
	if limits.Mutating > 0 {
		l.mutating = make(chan struct{}, limits.Mutating)
	}
	return l
}

type limiter struct {
	next               http.Handler
	limits             Limits
	metrics            *Metrics
	clock              clock.PassiveClock
	readOnly, mutating chan struct{}

	mu    sync.Mutex
	users *lru.Cache
}

// ServeHTTP answers one request, or refuses it.
func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	u, _ := request.UserFrom(r.Context())
	if info == nil {
		l.next.ServeHTTP(w, r)
		return
	}
	if longRunning(info) {
		defer l.metrics.openStream(info)()
		l.next.ServeHTTP(w, r)
		return
	}
	if u != nil && slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		l.next.ServeHTTP(w, r)
		return
	}
	if wait := l.userWait(u); wait > 0 {
		l.metrics.drop("user")
		refuseTooMany(w, r, wait)
		return
	}
	leave, ok := l.take(info.Verb)
	if !ok {
		l.metrics.drop("inflight")
		refuseTooMany(w, r, time.Second)
		return
	}
	defer leave()
	l.next.ServeHTTP(w, r)
}

func (l *limiter) take(verb string) (leave func(), ok bool) {
	slots := l.mutating
	if verb == "get" || verb == "list" {
		slots = l.readOnly
	}
	if slots == nil {
		return func() {}, true
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, true
	default:
		return nil, false
	}
}

// userWait says how long the user has to wait before their next request; they may
// send this one if that is 0.
func (l *limiter) userWait(u user.Info) time.Duration {
	if l.limits.UserRate <= 0 || u == nil {
		return 0
	}
	now := l.clock.Now()
	reservation := l.rateOf(u.GetName()).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now) // a refused request does not count
	}
	return wait
}

func (l *limiter) rateOf(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.users.Get(name); ok {
		return known.(*rate.Limiter)
	}
	fresh := rate.NewLimiter(rate.Limit(l.limits.UserRate), max(1, l.limits.UserBurst))
	l.users.Add(name, fresh)
	return fresh
}

func refuseTooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	Refuse(w, r, apierrors.NewTooManyRequests("too many requests, please try again later", seconds))
}
