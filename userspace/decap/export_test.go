package decap

// Remembered is the number of datagrams of which the engine knows the kind.
func (e *Engine) Remembered() int { return e.kinds.used }
