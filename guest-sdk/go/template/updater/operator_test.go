package main

import (
	"slices"
	"testing"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/updater"
)

func TestABalanceIsKeptUntilItsAccountIsClosed(t *testing.T) {
	var state updater.State[Account]
	out := tidemill.TestEmitter[Balance]()
	for _, entry := range []Entry{{Amount: 10}, {Amount: -4}, {Amount: 1, Close: tidemill.Some(true)}} {
		if err := (&Operator{}).Update(struct{}{}, tidemill.TestRows(entry), &state, out); err != nil {
			t.Fatal(err)
		}
	}
	expected := []Balance{{10, 1, false}, {6, 2, false}, {7, 3, true}}
	if balances := tidemill.Emitted(out); !slices.Equal(balances, expected) {
		t.Error(balances)
	}
	if _, ok := state.Get(); ok {
		t.Error("a closed account has state")
	}
}
