package netlinkx

// New returns the machine's kernel.
func New() Kernel { return nil }
