// A transform: splits lines into words, and counts where each stands.
package main

import (
	"errors"
	"strings"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/transform"
)

// Line is what is read. Its value may be null.
type Line struct {
	Value tidemill.Null[string] `tidemill:"value"`
}

// Word is what is written.
type Word struct {
	Word     string `tidemill:"word"`
	Position int64  `tidemill:"position"`
}

// Operator is the operator. Its fields are its configuration.
type Operator struct {
	// Lowercase has words written in lower case, as far as their letters are ASCII.
	Lowercase bool `json:"lowercase"`
}

// Process is called with every line. An error rejects it.
func (o *Operator) Process(line Line, out *tidemill.Emitter[Word]) error {
	text, ok := line.Value.Get()
	if !ok {
		return errors.New("`value` is null")
	}
	if o.Lowercase {
		text = strings.Map(lower, text)
	}
	position := int64(0)
	for word := range tidemill.Words(text) {
		out.Emit(Word{word, position})
		position++
	}
	return nil
}

func lower(letter rune) rune {
	if letter >= 'A' && letter <= 'Z' {
		return letter + ('a' - 'A')
	}
	return letter
}

func init() { transform.Export(&Operator{}) }

func main() {}
