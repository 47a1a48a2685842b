// Split-words splits lines into words: what stands between ASCII white space, as plugins/split-words does without `lowercase`.
package main

import (
	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/transform"
)

// Line is what is read.
type Line struct {
	Value string `tidemill:"value"`
}

// Word is what is written.
type Word struct {
	Word string `tidemill:"word"`
}

func splitWords(line Line, out *tidemill.Emitter[Word]) error {
	for word := range tidemill.Words(line.Value) {
		out.Emit(Word{word})
	}
	return nil
}

func init() { transform.FlatMap(splitWords) }

func main() {}
