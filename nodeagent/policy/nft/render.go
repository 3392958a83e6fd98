package nft

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// The names that every table has.
const (
	ingressMap  = "ingress"
	egressMap   = "egress"
	isolatedSet = "isolated"
	selfSet     = "self"

	egressForward  = "egress-forward"
	egressInput    = "egress-input"
	ingressForward = "ingress-forward"
)

// baseChain is a chain with a hook and the number of its rules.
type baseChain struct {
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    int
}

var baseChains = map[string]baseChain{
	egressForward:  {nftables.ChainHookForward, -10, 5},
	egressInput:    {nftables.ChainHookInput, -10, 4},
	ingressForward: {nftables.ChainHookForward, -9, 3},
}

// register is the first of four bytes; those of 16 bytes overlap with it.
const (
	register = unix.NFT_REG32_00
)

// Which end of a connection is looked at. Both are taken from the connection, not from
// the packet: so a Service is judged by the Pod that answers, what was sent through
// another address by who sent it, and packets of both directions alike. A connection
// that loses its right is cut in both.
//
// The kernel reads the first byte of what the library sends as four.
const (
	original = 0
	reply    = 1 << 24
)

func (w *writer) addressBytes() uint32 {
	if w.family == model.IPv6 {
		return 16
	}
	return 4
}

func (w *writer) addressType() nftables.SetDatatype {
	if w.family == model.IPv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// client and server load an address into a register.
func client(r uint32) expr.Any {
	return &expr.Ct{Register: r, Key: expr.CtKeySRC, Direction: original}
}

func server(r uint32) expr.Any {
	return &expr.Ct{Register: r, Key: expr.CtKeySRC, Direction: reply}
}

func serverPort(r uint32) expr.Any {
	return &expr.Ct{Register: r, Key: expr.CtKeyPROTOSRC, Direction: reply}
}

// after is the four-byte register behind an address in the first one.
func (w *writer) after() uint32 { return register + w.addressBytes()/4 }

func (w *writer) verdicts(name string) *nftables.Set {
	return &nftables.Set{Table: w.table, Name: name, IsMap: true, KeyType: w.addressType(), DataType: nftables.TypeVerdict}
}

func (w *writer) isolated() *nftables.Set {
	return &nftables.Set{Table: w.table, Name: isolatedSet, KeyType: w.addressType()}
}

func (w *writer) self() *nftables.Set {
	return &nftables.Set{Table: w.table, Name: selfSet, Concatenation: true, KeyType: nftables.MustConcatSetType(w.addressType(), w.addressType())}
}

func (w *writer) set(key string, s model.Set) *nftables.Set {
	set := &nftables.Set{Table: w.table, Name: key, KeyType: w.addressType()}
	switch {
	case s.Ranges != nil:
		set.Interval = true
	case s.Endpoints != nil:
		set.Concatenation, set.KeyType = true, nftables.MustConcatSetType(w.addressType(), nftables.TypeInetService)
	}
	return set
}

func (w *writer) create(set *nftables.Set) {
	if err := w.conn.AddSet(set, nil); err != nil && w.err == nil {
		w.err = fmt.Errorf("making the set %s: %w", set.Name, err)
	}
}

func (w *writer) addSet(key string, s model.Set) {
	set := w.set(key, s)
	w.create(set)
	w.inChunks(intervals(s.Ranges), func(part []nftables.SetElement) error { return w.conn.SetAddElements(set, part) })
}

// intervals are the beginnings and ends of ranges. One that ends with the last address
// has no end.
func intervals(ranges []netip.Prefix) []nftables.SetElement {
	var out []nftables.SetElement
	for _, p := range ranges {
		out = append(out, nftables.SetElement{Key: p.Addr().AsSlice()})
		if end := last(p).Next(); end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

func last(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// base makes what every table has. Egress is judged where packets are forwarded and
// where they are for the node itself; ingress where they are forwarded only, so what the
// node itself sends always reaches its Pods. An accepted packet goes on to the next
// chain with a hook, so both directions must agree.
func (w *writer) base() {
	for _, m := range []string{ingressMap, egressMap} {
		w.create(w.verdicts(m))
	}
	w.create(w.isolated())
	w.create(w.self())
	hooked := func(name string) *nftables.Chain {
		base := baseChains[name]
		return w.conn.AddChain(&nftables.Chain{
			Name: name, Table: w.table, Type: nftables.ChainTypeFilter, Hooknum: base.hook, Priority: &base.priority,
		})
	}
	forward, input, ingress := hooked(egressForward), hooked(egressInput), hooked(ingressForward)

	const unknown = expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED
	w.rule(forward, w.refuseState(unknown, true)...)
	w.rule(forward, w.refuseState(unknown, false)...)
	w.rule(input, w.refuseState(expr.CtStateBitINVALID, true)...) // neighbour discovery is not tracked
	for _, c := range []*nftables.Chain{forward, input, ingress} {
		w.rule(c, acceptRelated()...)
		w.rule(c, w.acceptSelf()...)
	}
	w.rule(forward, w.judge(client(register), egressMap)...)
	w.rule(input, w.judge(client(register), egressMap)...)
	w.rule(ingress, w.judge(server(register), ingressMap)...)
}

// rule appends a rule with the mark of its place; a chain that is there already never
// gets more.
func (w *writer) rule(c *nftables.Chain, exprs ...expr.Any) {
	if w.places == nil {
		w.places = map[string]int{}
	}
	comment := userdata.AppendString(nil, userdata.TypeComment, mark(w.places[c.Name]))
	w.places[c.Name]++
	w.conn.AddRule(&nftables.Rule{Table: w.table, Chain: c, Exprs: exprs, UserData: comment})
}

// refuseState drops what belongs to no connection, from or to who has policies: whose
// it is cannot be told.
func (w *writer) refuseState(states uint32, source bool) []expr.Any {
	offset := map[uint32]uint32{4: 16, 16: 24}[w.addressBytes()]
	if source {
		offset = map[uint32]uint32{4: 12, 16: 8}[w.addressBytes()]
	}
	return []expr.Any{
		&expr.Ct{Register: register, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(states), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: w.addressBytes()},
		&expr.Lookup{SourceRegister: register, SetName: isolatedSet},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// acceptRelated lets errors about a connection through: they are not of its protocol.
func acceptRelated() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: register, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// acceptSelf lets a Pod reach itself, whichever way.
func (w *writer) acceptSelf() []expr.Any {
	return []expr.Any{
		client(register), server(w.after()),
		&expr.Lookup{SourceRegister: register, SetName: selfSet},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func (w *writer) judge(load expr.Any, verdicts string) []expr.Any {
	return []expr.Any{load, &expr.Lookup{SourceRegister: register, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: verdicts}}
}

func verdict(a netip.Addr, chain string) nftables.SetElement {
	return nftables.SetElement{Key: a.AsSlice(), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// addRules fills a chain: what no rule accepts is dropped.
func (w *writer) addRules(chain string, rules []model.Rule) {
	c := &nftables.Chain{Name: chain, Table: w.table}
	peer := client
	if isEgress(chain) {
		peer = server
	}
	for _, r := range rules {
		w.rule(c, append(w.match(r, peer), &expr.Verdict{Kind: expr.VerdictAccept})...)
	}
	w.rule(c, &expr.Verdict{Kind: expr.VerdictDrop})
}

func isEgress(chain string) bool { return len(chain) > 3 && chain[:4] == "out-" }

var protocols = map[corev1.Protocol]byte{
	corev1.ProtocolTCP: unix.IPPROTO_TCP, corev1.ProtocolUDP: unix.IPPROTO_UDP, corev1.ProtocolSCTP: unix.IPPROTO_SCTP,
}

func (w *writer) match(r model.Rule, peer func(uint32) expr.Any) []expr.Any {
	var out []expr.Any
	if r.Protocol != "" {
		out = append(out,
			&expr.Meta{Register: register, Key: expr.MetaKeyL4PROTO},
			&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{protocols[r.Protocol]}})
	}
	if r.Peers != "" {
		out = append(out, peer(register), &expr.Lookup{SourceRegister: register, SetName: r.Peers})
	}
	if r.First != 0 {
		out = append(out, serverPort(register))
		if r.First == r.Last {
			out = append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.BigEndian.PutUint16(r.First)})
		} else {
			out = append(out, &expr.Range{
				Op: expr.CmpOpEq, Register: register,
				FromData: binaryutil.BigEndian.PutUint16(r.First), ToData: binaryutil.BigEndian.PutUint16(r.Last),
			})
		}
	}
	if r.Targets != "" {
		out = append(out, server(register), serverPort(w.after()), &expr.Lookup{SourceRegister: register, SetName: r.Targets})
	}
	return out
}
