// A grouper: the pages of a visitor in the order of time, each with the time since the one before.
package main

import (
	"cmp"
	"slices"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/grouper"
)

// Visit is what is read.
type Visit struct {
	At   int64                 `tidemill:"at"`
	Page tidemill.Null[string] `tidemill:"page"`
}

// Step is what is written, behind the key.
type Step struct {
	At    int64                 `tidemill:"at"`
	Page  tidemill.Null[string] `tidemill:"page"`
	Since tidemill.Null[int64]  `tidemill:"since"`
}

// Operator is the operator. It has no configuration.
type Operator struct{}

// Process is called with all visits of a visitor. It reads nothing of the key.
func (*Operator) Process(_ struct{}, rows tidemill.GroupRows[Visit], out *tidemill.Emitter[Step]) error {
	var visits []Visit
	for _, visit := range rows {
		visits = append(visits, visit)
	}
	// Visits of the same time stay in the order in which they came.
	slices.SortStableFunc(visits, func(a, b Visit) int { return cmp.Compare(a.At, b.At) })
	var since tidemill.Null[int64]
	for i, visit := range visits {
		if i > 0 {
			since = tidemill.Some(visit.At - visits[i-1].At)
		}
		out.Emit(Step{visit.At, visit.Page, since})
	}
	return nil
}

func init() { grouper.Export(&Operator{}) }

func main() {}
