package tidemill

// Level is how much a log line matters.
type Level int32

// The levels of the contract.
const (
	// Debug is for whoever writes the operator.
	Debug Level = iota
	// Info is for whoever runs the job.
	Info
	// Warn is for something that should not be, and did no harm.
	Warn
	// Error is for something that did harm.
	Error
)
