//go:build !wasip1

package tidemill

import (
	"fmt"
	"os"
)

// Log writes a line to the job's log; outside of a plugin, as in tests, to standard error.
func Log(level Level, text string) { fmt.Fprintf(os.Stderr, "%d: %s\n", level, text) }

// Count adds to a counter of the step; outside of a plugin there is none.
func Count(string, uint64) {}

// Gauge sets a gauge of the step; outside of a plugin there is none.
func Gauge(string, float64) {}
