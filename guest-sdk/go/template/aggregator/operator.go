// An aggregator: the mean of readings. Those that are null are left out.
package main

import (
	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/aggregator"
)

// Reading is what is read.
type Reading struct {
	Degrees tidemill.Null[float64] `tidemill:"degrees"`
}

// Sum is the accumulator.
type Sum struct {
	Sum      float64 `tidemill:"sum"`
	Readings int64   `tidemill:"readings"`
}

// Mean is the result: null when there is nothing to take it of.
type Mean struct {
	Mean     tidemill.Null[float64] `tidemill:"mean"`
	Readings int64                  `tidemill:"readings"`
}

// Operator is the operator. It has no configuration.
type Operator struct{}

// Accumulate adds a reading to an accumulator, which begins with zeros.
func (*Operator) Accumulate(sum *Sum, reading Reading) error {
	if degrees, ok := reading.Degrees.Get(); ok {
		sum.Sum += degrees
		sum.Readings++
	}
	return nil
}

// Merge adds an accumulator to another.
func (*Operator) Merge(sum *Sum, other Sum) error {
	sum.Sum += other.Sum
	sum.Readings += other.Readings
	return nil
}

// Finish makes the result of an accumulator.
func (*Operator) Finish(sum Sum) (Mean, error) {
	if sum.Readings == 0 {
		return Mean{}, nil
	}
	return Mean{tidemill.Some(sum.Sum / float64(sum.Readings)), sum.Readings}, nil
}

func init() { aggregator.Export(&Operator{}) }

func main() {}
