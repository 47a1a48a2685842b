package tidemill

// TestEmitter makes an emitter for a test of an operator's methods. It panics when T is no row.
func TestEmitter[T any]() *Emitter[T] {
	layout, err := LayoutOf[T]()
	if err != nil {
		panic(err)
	}
	e := NewEmitter(layout, 2, true)
	e.Reset(&Call{})
	return e
}

// Emitted gives what has been emitted into an emitter, as a job would see it, and empties it. It panics when that is not what
// the contract asks for.
func Emitted[T any](e *Emitter[T]) []T {
	raw, _, _, err := e.Finish()
	if err != nil {
		panic(err)
	}
	var batch Batch
	batch.Lift(raw, e.layout.Schema)
	rows, err := RowsOf(e.layout, &batch)
	if err != nil {
		panic(err)
	}
	emitted := make([]T, batch.Rows)
	for i := range emitted {
		rows.Read(i, &emitted[i])
	}
	// What was read may be views of the memory that the emitter would use again.
	layout, call := e.layout, e.call
	*e = *NewEmitter(layout, len(e.rejected), e.keepsFrom)
	e.Reset(call)
	return emitted
}

// Rejected gives the rows of an input that have been rejected.
func Rejected[T any](e *Emitter[T], input int) []Rejection { return e.rejected[input] }

// TestRows makes the rows of a key, for a test of a grouper's or an updater's methods.
func TestRows[T any](rows ...T) GroupRows[T] {
	return func(yield func(RowID, T) bool) {
		for i, row := range rows {
			if !yield(RowNumber(i), row) {
				return
			}
		}
	}
}
