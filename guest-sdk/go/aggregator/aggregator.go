// Package aggregator exports an operator as an aggregator: rows of a key into an accumulator of other columns, accumulators into a
// result.
//
// Call one of its functions in `init`. The operator is a pointer to a struct, into which the step's configuration is decoded: as
// with package transform.
package aggregator

import tidemill "github.com/tidemill/tidemill/guest-sdk/go"

// Operator accumulates rows. Merge has to be associative. An accumulator begins as the zero of its type, unless the operator
// has a method `Start() Acc`. An error fails the call.
type Operator[In, Acc, Out any] interface {
	// Accumulate adds a row to an accumulator.
	Accumulate(acc *Acc, row In) error
	// Merge adds an accumulator to another.
	Merge(acc *Acc, other Acc) error
	// Finish makes the result.
	Finish(acc Acc) (Out, error)
}

// Plan is what an aggregator reads, keeps and gives.
type Plan struct {
	// Reads are the columns that are sent, in this order; ReadsAll sends all.
	Reads    []string
	ReadsAll bool
	// Accumulator are the columns of an accumulator, and Result those of a result.
	Accumulator, Result tidemill.Schema
}

// Columns is an aggregator whose columns depend on the configuration or on the input.
type Columns interface {
	// Plan type-checks the step.
	Plan(step *tidemill.Step, values tidemill.Schema) (*Plan, error)
	// AccumulateColumns gives the accumulator of each group of rows; ends[i] is the exclusive end of group i.
	AccumulateColumns(call *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error
	// MergeColumns gives the accumulator of each group of accumulators.
	MergeColumns(call *tidemill.Call, accumulators *tidemill.Batch, ends []uint32, out *tidemill.Table) error
	// FinishColumns gives the result of each accumulator.
	FinishColumns(call *tidemill.Call, accumulators *tidemill.Batch, out *tidemill.Table) error
}

// Export exports an operator.
func Export[In, Acc, Out any](operator Operator[In, Acc, Out]) {
	t := &typed[In, Acc, Out]{operator: operator, start: func() (zero Acc) { return }}
	if starter, ok := operator.(interface{ Start() Acc }); ok {
		t.start = starter.Start
	}
	ExportColumns(t)
}

// ExportColumns exports an operator on columns.
func ExportColumns(operator Columns) {
	if exported != nil {
		panic("a plugin has one aggregator")
	}
	exported = operator
}

type typed[In, Acc, Out any] struct {
	operator Operator[In, Acc, Out]
	start    func() Acc
	in       *tidemill.Layout[In]
	acc      *tidemill.Layout[Acc]
	out      *tidemill.Layout[Out]
	// What is read and written: of the struct's own, so that it costs no allocation.
	row        In
	sum, other Acc
	result     Out
}

func (t *typed[In, Acc, Out]) Plan(step *tidemill.Step, values tidemill.Schema) (*Plan, error) {
	err := tidemill.Configure(t.operator, step)
	if err != nil {
		return nil, err
	}
	if t.in, err = tidemill.LayoutOf[In](); err != nil {
		return nil, err
	}
	if t.acc, err = tidemill.LayoutOf[Acc](); err != nil {
		return nil, err
	}
	if t.out, err = tidemill.LayoutOf[Out](); err != nil {
		return nil, err
	}
	return &Plan{Reads: t.in.Names(), Accumulator: t.acc.Schema, Result: t.out.Schema}, t.in.Check(values, nil, "")
}

func (t *typed[In, Acc, Out]) AccumulateColumns(_ *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	rows, err := tidemill.RowsOf(t.in, values)
	if err != nil {
		return err
	}
	row := 0
	for _, end := range ends {
		t.sum = t.start()
		for ; row < int(end); row++ {
			if name := rows.NullColumn(row); name != "" {
				return tidemill.Failed("column `%s` is null", name)
			}
			rows.Read(row, &t.row)
			if err := t.operator.Accumulate(&t.sum, t.row); err != nil {
				return err
			}
		}
		t.acc.Append(out, &t.sum)
	}
	return nil
}

func (t *typed[In, Acc, Out]) MergeColumns(_ *tidemill.Call, accumulators *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	rows, err := tidemill.RowsOf(t.acc, accumulators)
	if err != nil {
		return err
	}
	row := 0
	for _, end := range ends {
		rows.Read(row, &t.sum)
		for row++; row < int(end); row++ {
			rows.Read(row, &t.other)
			if err := t.operator.Merge(&t.sum, t.other); err != nil {
				return err
			}
		}
		t.acc.Append(out, &t.sum)
	}
	return nil
}

func (t *typed[In, Acc, Out]) FinishColumns(_ *tidemill.Call, accumulators *tidemill.Batch, out *tidemill.Table) error {
	rows, err := tidemill.RowsOf(t.acc, accumulators)
	if err != nil {
		return err
	}
	for row := range rows.Len() {
		rows.Read(row, &t.sum)
		if t.result, err = t.operator.Finish(t.sum); err != nil {
			return err
		}
		t.out.Append(out, &t.result)
	}
	return nil
}

var (
	exported            Columns
	plan                *Plan
	reads               tidemill.Schema
	values, accumulated tidemill.Batch
	accumulators        *tidemill.Table
	results             *tidemill.Table
)

func open(step *tidemill.Step, input tidemill.Schema) (*Plan, error) {
	made, err := exported.Plan(step, input)
	if err != nil {
		return nil, err
	}
	plan, reads = made, input
	if !made.ReadsAll {
		if reads, err = tidemill.Pick(input, made.Reads); err != nil {
			return nil, err
		}
	}
	accumulators, results = tidemill.NewTable(made.Accumulator), tidemill.NewTable(made.Result)
	return made, nil
}

func accumulate(call *tidemill.Call, raw tidemill.RawBatch, ends []uint32) (tidemill.RawBatch, error) {
	values.Lift(raw, reads)
	accumulators.Reset()
	if err := exported.AccumulateColumns(call, &values, ends, accumulators); err != nil {
		return tidemill.RawBatch{}, err
	}
	return accumulators.FinishRows(len(ends))
}

func merge(call *tidemill.Call, raw tidemill.RawBatch, ends []uint32) (tidemill.RawBatch, error) {
	accumulated.Lift(raw, plan.Accumulator)
	accumulators.Reset()
	if err := exported.MergeColumns(call, &accumulated, ends, accumulators); err != nil {
		return tidemill.RawBatch{}, err
	}
	return accumulators.FinishRows(len(ends))
}

func finish(call *tidemill.Call, raw tidemill.RawBatch) (tidemill.RawBatch, error) {
	accumulated.Lift(raw, plan.Accumulator)
	results.Reset()
	if err := exported.FinishColumns(call, &accumulated, results); err != nil {
		return tidemill.RawBatch{}, err
	}
	return results.FinishRows(accumulated.Rows)
}
