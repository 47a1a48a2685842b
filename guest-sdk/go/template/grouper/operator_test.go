package main

import (
	"slices"
	"testing"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

func TestVisitsAreInTheOrderOfTime(t *testing.T) {
	out := tidemill.TestEmitter[Step]()
	rows := tidemill.TestRows(Visit{At: 30}, Visit{At: 10, Page: tidemill.Some("/")})
	if err := (&Operator{}).Process(struct{}{}, rows, out); err != nil {
		t.Fatal(err)
	}
	expected := []Step{{At: 10, Page: tidemill.Some("/")}, {At: 30, Since: tidemill.Some(int64(20))}}
	if steps := tidemill.Emitted(out); !slices.Equal(steps, expected) {
		t.Error(steps)
	}
}
