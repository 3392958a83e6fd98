package state

import (
	"iter"
)

// TermKind tells kinds of terms of Pods that have a Node apart.
type TermKind uint8

// The kinds of terms.
const (
	RequiredAffinity TermKind = iota
	RequiredAntiAffinity
	PreferredAffinity
	PreferredAntiAffinity
	numTermKinds
)

// termIndex holds equal terms once, with their uses by the places of Nodes: a use of a
// required term counts 1, one of a preferred term its weight. A placement asks each
// distinct term once, however many Pods have it.
type termIndex map[string]*termUses

type termUses struct {
	term *Term
	uses map[int]int64
}

func (x termIndex) count(term *Term, place int, value int64) {
	entry := x[term.Key]
	if entry == nil {
		entry = &termUses{term: term, uses: map[int]int64{}}
		x[term.Key] = entry
	}
	entry.uses[place] += value
	if entry.uses[place] == 0 {
		delete(entry.uses, place)
		if len(entry.uses) == 0 {
			delete(x, term.Key)
		}
	}
}

func (s *Snapshot) countTerms(place int, info *NodeInfo, sign int64) {
	for _, pod := range info.withTerms {
		for _, term := range pod.RequiredAffinity {
			s.terms[RequiredAffinity].count(term, place, sign)
		}
		for _, term := range pod.RequiredAntiAffinity {
			s.terms[RequiredAntiAffinity].count(term, place, sign)
		}
		for _, term := range pod.PreferredAffinity {
			s.terms[PreferredAffinity].count(term, place, sign*term.Weight)
		}
		for _, term := range pod.PreferredAntiAffinity {
			s.terms[PreferredAntiAffinity].count(term, place, sign*term.Weight)
		}
	}
}

// Selecting yields, for every distinct term of a kind that Pods with a Node have and
// that selects pod, the Nodes of those Pods and the uses there: the number of Pods, or
// the sum of weights.
func (s *Snapshot) Selecting(kind TermKind, pod *PodInfo) iter.Seq2[*Term, iter.Seq2[*NodeInfo, int64]] {
	namespaceLabels := s.namespaces[pod.Pod.Namespace]
	return func(yield func(*Term, iter.Seq2[*NodeInfo, int64]) bool) {
		for _, entry := range s.terms[kind] {
			if !entry.term.Matches(pod, namespaceLabels) {
				continue
			}
			uses := func(yield func(*NodeInfo, int64) bool) {
				for place, value := range entry.uses {
					if !yield(s.nodes[place], value) {
						return
					}
				}
			}
			if !yield(entry.term, uses) {
				return
			}
		}
	}
}
