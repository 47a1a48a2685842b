package main

import (
	"slices"
	"testing"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

func TestLinesAreSplitIntoWords(t *testing.T) {
	out := tidemill.TestEmitter[Word]()
	if err := (&Operator{Lowercase: true}).Process(Line{tidemill.Some("To be ")}, out); err != nil {
		t.Fatal(err)
	}
	if words := tidemill.Emitted(out); !slices.Equal(words, []Word{{"to", 0}, {"be", 1}}) {
		t.Error(words)
	}
	if err := (&Operator{}).Process(Line{}, out); err == nil {
		t.Error("a null is not rejected")
	}
}
