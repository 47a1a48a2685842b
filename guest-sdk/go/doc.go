// Package tidemill is for writing Tidemill operators in Go. Contract tidemill:operator@0.1.0, SDK 0.1.
//
// An operator is a struct with a method, and rows are structs whose fields are columns:
//
//	package main
//
//	import (
//		tidemill "github.com/tidemill/tidemill/guest-sdk/go"
//		"github.com/tidemill/tidemill/guest-sdk/go/transform"
//	)
//
//	type Line struct {
//		Value string `tidemill:"value"`
//	}
//
//	type Word struct {
//		Word string `tidemill:"word"`
//	}
//
//	// SplitWords is the operator. Its exported fields are its configuration.
//	type SplitWords struct{}
//
//	func (*SplitWords) Process(line Line, out *tidemill.Emitter[Word]) error {
//		for word := range tidemill.Words(line.Value) {
//			out.Emit(Word{word})
//		}
//		return nil
//	}
//
//	func init() { transform.Export(&SplitWords{}) }
//
//	func main() {}
//
// The packages transform, reducer, aggregator, grouper and updater each export a role when they are imported; their pages say
// which methods an operator has. `tidemill plugin build` builds it; so does, before a component encoder,
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o core.wasm .
//
// # Rows
//
// A field without a tag is a column of its own name; `tidemill:"name"` names it, and `tidemill:"-"` leaves it out. What is read
// are the columns of the struct that comes in; what is written are those of the struct that goes out.
//
//	| Go                                        | column                            |
//	| ----------------------------------------- | --------------------------------- |
//	| bool, int8 … int64, uint8 … uint64        | of the same name                  |
//	| float32, float64                          | of the same name                  |
//	| string, []byte, [n]byte                   | utf8, binary, fixed(n)            |
//	| [Date], [Timestamp], [Duration]           | date32; in microseconds           |
//	| [Decimal]                                 | decimal(p, s), said in the tag    |
//	| [Null][T]                                 | the same, and a value may be null |
//	| []T, a struct, [Map][K, V]                | list, struct, map                 |
//
// A second word in the tag says the type where Go's does not: `tidemill:"price,decimal(10, 2)"`,
// `tidemill:"at,timestamp(ns)"`.
//
// A column that is read without [Null] may hold nulls all the same, as every column of a source does: such a row is rejected; in
// a reducer or an aggregator the call fails.
//
// Text, bytes and lists of numbers are views of what came: they are good until the method returns, and what is emitted is copied.
// strings.Clone and slices.Clone keep them longer. Fields of an operator that methods set are there at the next call in
// the same instance; nobody keeps them.
//
// # Errors
//
// An error that a method of rows returns rejects the row with its text. [Failed] makes one that fails the call for good, and
// [FailedForNow] one that is worth trying again. In Open, an error refuses the step; [WrongSchema] says that the columns are
// to blame, and not the configuration. A panic is a bug: it traps.
package tidemill
