package containerd

// DropAsOfItsBeginning does what a comparison does that knows a container from before
// its first change and did not find it in the list.
func (r *Runtime) DropAsOfItsBeginning(id string) { r.dropIfUnchanged(id, 0) }
