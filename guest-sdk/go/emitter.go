package tidemill

import (
	"fmt"
	"sort"
)

// RowID says which row it is, for [Emitter.Reject].
type RowID struct {
	input uint32
	row   uint32
}

// RowNumber is a row of a transform's input, by its number.
func RowNumber(row int) RowID { return RowID{0, uint32(row)} }

// Emitter takes what an operator puts out.
type Emitter[T any] struct {
	layout *Layout[T]
	table  *Table
	// From is, for each row, the row or the group that it comes from.
	from      []uint32
	keepsFrom bool
	current   uint32
	rejected  [][]Rejection
	call      *Call
	row       T
}

// NewEmitter makes one, for operators of one role: they call it. `keepsFrom` has it note what each row comes from.
func NewEmitter[T any](layout *Layout[T], inputs int, keepsFrom bool) *Emitter[T] {
	return &Emitter[T]{layout: layout, table: NewTable(layout.Schema), keepsFrom: keepsFrom, rejected: make([][]Rejection, inputs)}
}

// Emit puts a row out. It comes from the row, or belongs to the key, that the method was called with.
func (e *Emitter[T]) Emit(row T) {
	// The row that is appended is one of the emitter's own: it costs no allocation.
	e.row = row
	e.layout.Append(e.table, &e.row)
	if e.keepsFrom {
		e.from = append(e.from, e.current)
	}
}

// EmitFrom puts a row out that comes from a row of the input: for methods of whole batches that carry columns.
func (e *Emitter[T]) EmitFrom(from int, row T) {
	e.current = uint32(from)
	e.Emit(row)
}

// Reject says that a row of the input cannot be processed. What was emitted for it before stays.
func (e *Emitter[T]) Reject(id RowID, format string, a ...any) {
	e.rejected[id.input] = append(e.rejected[id.input], Rejection{id.row, fmt.Sprintf(format, a...)})
}

// Call says what the method is called for.
func (e *Emitter[T]) Call() *Call { return e.call }

// Reset empties it, for a call.
func (e *Emitter[T]) Reset(call *Call) {
	e.call = call
	e.table.Reset()
	e.from, e.current = e.from[:0], 0
	for i := range e.rejected {
		e.rejected[i] = nil
	}
}

// At says what the rows that follow come from.
func (e *Emitter[T]) At(current int) { e.current = uint32(current) }

// Finish gives the rows, what each comes from, and what was rejected of each input.
func (e *Emitter[T]) Finish() (rows RawBatch, from []uint32, rejected [][]Rejection, err error) {
	for i, list := range e.rejected {
		sort.SliceStable(list, func(a, b int) bool { return list[a].Row < list[b].Row })
		kept := list[:0]
		for _, rejection := range list {
			// A row has one reason: the first.
			if len(kept) == 0 || kept[len(kept)-1].Row != rejection.Row {
				kept = append(kept, rejection)
			}
		}
		e.rejected[i] = kept
	}
	rows, err = e.table.Finish()
	return rows, e.from, e.rejected, err
}
