// Package reducer exports an operator as a reducer: rows of a key into one row of the same columns. It has to be associative.
//
// Call one of its functions in `init`. The operator is a pointer to a struct, into which the step's configuration is decoded: as
// with package transform. The struct of its rows has all the columns that are not keys.
package reducer

import tidemill "github.com/tidemill/tidemill/guest-sdk/go"

// Operator combines two rows. A row it has made may come back. An error fails the call.
type Operator[Row any] interface {
	Reduce(a, b Row) (Row, error)
}

// Inverse takes a part out of a whole: an operator that has it makes sliding windows cheap.
type Inverse[Row any] interface {
	Invert(whole, part Row) (Row, error)
}

// Columns is a reducer of whatever columns there are.
type Columns interface {
	// Plan type-checks the step, and says whether InvertColumns works.
	Plan(step *tidemill.Step, values tidemill.Schema) (invertible bool, err error)
	// ReduceColumns gives one row a group; ends[i] is the exclusive end of group i. Groups are not empty.
	ReduceColumns(call *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error
	// InvertColumns gives whole minus part, row by row.
	InvertColumns(call *tidemill.Call, whole, part *tidemill.Batch, out *tidemill.Table) error
}

// Export exports an operator.
func Export[Row any](operator Operator[Row]) {
	t := &typed[Row]{operator: operator, reduce: operator.Reduce}
	if inverse, ok := operator.(Inverse[Row]); ok {
		t.invert = inverse.Invert
	}
	ExportColumns(t)
}

// Func exports a function, without a configuration.
func Func[Row any](reduce func(a, b Row) (Row, error)) {
	ExportColumns(&typed[Row]{operator: &struct{}{}, reduce: reduce})
}

// ExportColumns exports an operator on columns.
func ExportColumns(operator Columns) {
	if exported != nil {
		panic("a plugin has one reducer")
	}
	exported = operator
}

type typed[Row any] struct {
	operator       any
	reduce, invert func(a, b Row) (Row, error)
	layout         *tidemill.Layout[Row]
	// Rows that are read and written: of the struct's own, so that they cost no allocation.
	a, b Row
}

func (t *typed[Row]) Plan(step *tidemill.Step, values tidemill.Schema) (bool, error) {
	if err := tidemill.Configure(t.operator, step); err != nil {
		return false, err
	}
	layout, err := tidemill.LayoutOf[Row]()
	if err != nil {
		return false, err
	}
	t.layout = layout
	return t.invert != nil, layout.Arrange(values)
}

func (t *typed[Row]) rows(batch *tidemill.Batch) (tidemill.Rows[Row], error) {
	rows, err := tidemill.RowsOf(t.layout, batch)
	for i := 0; err == nil && i < rows.Len(); i++ {
		if name := rows.NullColumn(i); name != "" {
			err = tidemill.Failed("column `%s` is null", name)
		}
	}
	return rows, err
}

func (t *typed[Row]) ReduceColumns(_ *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	rows, err := t.rows(values)
	if err != nil {
		return err
	}
	row := 0
	for _, end := range ends {
		rows.Read(row, &t.a)
		for row++; row < int(end); row++ {
			rows.Read(row, &t.b)
			if t.a, err = t.reduce(t.a, t.b); err != nil {
				return err
			}
		}
		t.layout.Append(out, &t.a)
	}
	return nil
}

func (t *typed[Row]) InvertColumns(_ *tidemill.Call, whole, part *tidemill.Batch, out *tidemill.Table) error {
	if t.invert == nil {
		return tidemill.Failed("this reducer has no inverse")
	}
	wholes, err := t.rows(whole)
	if err != nil {
		return err
	}
	parts, err := t.rows(part)
	if err != nil {
		return err
	}
	for i := range wholes.Len() {
		wholes.Read(i, &t.a)
		parts.Read(i, &t.b)
		if t.a, err = t.invert(t.a, t.b); err != nil {
			return err
		}
		t.layout.Append(out, &t.a)
	}
	return nil
}

var (
	exported    Columns
	schema      tidemill.Schema
	batch, part tidemill.Batch
	table       *tidemill.Table
)

func open(step *tidemill.Step, values tidemill.Schema) (bool, error) {
	schema, table = values, tidemill.NewTable(values)
	return exported.Plan(step, values)
}

func reduce(call *tidemill.Call, values tidemill.RawBatch, ends []uint32) (tidemill.RawBatch, error) {
	batch.Lift(values, schema)
	table.Reset()
	if err := exported.ReduceColumns(call, &batch, ends, table); err != nil {
		return tidemill.RawBatch{}, err
	}
	return table.FinishRows(len(ends))
}

func invert(call *tidemill.Call, whole, taken tidemill.RawBatch) (tidemill.RawBatch, error) {
	batch.Lift(whole, schema)
	part.Lift(taken, schema)
	table.Reset()
	if err := exported.InvertColumns(call, &batch, &part, table); err != nil {
		return tidemill.RawBatch{}, err
	}
	return table.FinishRows(batch.Rows)
}
