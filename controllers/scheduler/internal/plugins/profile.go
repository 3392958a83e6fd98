package plugins

// Profile is the plug-ins by which the Pods of one schedulerName are placed.
type Profile struct {
	SchedulerName string
	// PercentageOfNodesToScore ends the search once that many Nodes have passed, of at
	// least 100; 0 means a share that shrinks with the number of Nodes.
	PercentageOfNodesToScore int
	Filters                  []Filter
	Scores                   []WeightedScore
	// Preemption is nil when Pods of this profile make no others go.
	Preemption *Preemption
	// Gates says that Pods with scheduling gates wait.
	Gates bool
}

// WeightedScore is a Score and how much it counts.
type WeightedScore struct {
	Plugin Score
	Weight int64
}

// Preemption is how many Nodes are tried for a Pod that nobody can take.
type Preemption struct {
	// MinCandidatePercentage and MinCandidateNodes are as in DefaultPreemptionArgs.
	MinCandidatePercentage, MinCandidateNodes int
}

// Candidates is how many of nodes must turn out possible before the search may end.
func (p *Preemption) Candidates(nodes int) int {
	return min(max(nodes*p.MinCandidatePercentage/100, p.MinCandidateNodes), nodes)
}

// Filter finds a filter by its name, or nil.
func (p *Profile) Filter(name string) Filter {
	for _, filter := range p.Filters {
		if filter.Name() == name {
			return filter
		}
	}
	return nil
}
