package main

import (
	"testing"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

func TestTheMeanLeavesNullsOut(t *testing.T) {
	var sum Sum
	for _, degrees := range []tidemill.Null[float64]{tidemill.Some(20.0), {}, tidemill.Some(24.0)} {
		if err := (&Operator{}).Accumulate(&sum, Reading{degrees}); err != nil {
			t.Fatal(err)
		}
	}
	if mean, err := (&Operator{}).Finish(sum); err != nil || mean != (Mean{tidemill.Some(22.0), 2}) {
		t.Error(mean, err)
	}
}
