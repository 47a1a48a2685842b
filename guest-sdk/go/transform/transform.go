// Package transform exports an operator as a transform: map, flat-map, filter, or whole batches.
//
// Call one of its functions in `init`:
//
//	func init() { transform.Export(&SplitWords{}) }
//
// The operator is a pointer to a struct. The step's configuration is decoded into it as encoding/json does, and keys that it has
// no place for are refused; its values at the call are the defaults. A method `Open(*tidemill.Step) error`, if there is one,
// checks it.
package transform

import (
	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

// Operator is called with each row, and emits any number of rows. An error rejects the row.
type Operator[In, Out any] interface {
	Process(row In, out *tidemill.Emitter[Out]) error
}

// BatchOperator is called with some rows at once. An error fails the call.
type BatchOperator[In, Out any] interface {
	ProcessBatch(rows tidemill.Rows[In], out *tidemill.Emitter[Out]) error
}

// Filter says of each row whether it stays. All columns go along. An error rejects the row.
type Filter[In any] interface {
	Keep(row In) (bool, error)
}

// Columns is an operator whose columns depend on the configuration or on the input.
type Columns interface {
	// Plan type-checks the step. The same step and input always get the same plan.
	Plan(step *tidemill.Step, input tidemill.Schema) (*Plan, error)
	// ProcessColumns processes some rows. An error fails the call.
	ProcessColumns(call *tidemill.Call, input *tidemill.Batch, out *Output) error
}

// Plan is what a transform reads, writes and carries.
type Plan struct {
	// Reads are the columns that are sent, in this order; ReadsAll sends all.
	Reads    []string
	ReadsAll bool
	// Writes are the columns that come back.
	Writes tidemill.Schema
	// Carries are the columns that go along without crossing; CarriesAll are all.
	Carries    []string
	CarriesAll bool
}

// Output takes what comes of a call.
type Output struct {
	*tidemill.Table
	// Origin is the input row that each row came from; nil: row i came from row i.
	Origin []uint32
	// Rejected are rows of the input that cannot be processed.
	Rejected []tidemill.Rejection
}

// Option says which columns of the input go along with the rows that come out. They never cross into the plugin.
type Option func(*Plan)

// CarryAll has all columns go along.
func CarryAll() Option { return func(plan *Plan) { plan.CarriesAll = true } }

// Carry has those named go along.
func Carry(columns ...string) Option {
	return func(plan *Plan) { plan.Carries = append(plan.Carries, columns...) }
}

// Export exports an operator.
func Export[In, Out any](operator Operator[In, Out], options ...Option) {
	export(&typed[In, Out]{operator: operator, options: options, each: operator.Process})
}

// ExportBatch exports an operator on whole batches.
func ExportBatch[In, Out any](operator BatchOperator[In, Out], options ...Option) {
	export(&typed[In, Out]{operator: operator, options: options, batch: operator.ProcessBatch})
}

// ExportFilter exports a filter.
func ExportFilter[In any](operator Filter[In]) { exportFilter(operator, operator.Keep) }

// ExportColumns exports an operator whose columns are not known before it is opened.
func ExportColumns(operator Columns) { export(operator) }

// Map exports a function of a row, without a configuration.
func Map[In, Out any](function func(row In) (Out, error), options ...Option) {
	FlatMap(func(row In, out *tidemill.Emitter[Out]) error {
		made, err := function(row)
		if err == nil {
			out.Emit(made)
		}
		return err
	}, options...)
}

// FlatMap exports a function that emits any number of rows, without a configuration.
func FlatMap[In, Out any](function func(row In, out *tidemill.Emitter[Out]) error, options ...Option) {
	export(&typed[In, Out]{operator: &struct{}{}, options: options, each: function})
}

// KeepIf exports a function that says whether a row stays, without a configuration.
func KeepIf[In any](function func(row In) (bool, error)) { exportFilter(&struct{}{}, function) }

func exportFilter[In any](operator any, keep func(row In) (bool, error)) {
	export(&typed[In, struct{}]{operator: operator, options: []Option{CarryAll()}, each: func(row In, out *tidemill.Emitter[struct{}]) error {
		stays, err := keep(row)
		if stays && err == nil {
			out.Emit(struct{}{})
		}
		return err
	}})
}

var exported Columns

func export(operator Columns) {
	if exported != nil {
		panic("a plugin has one transform")
	}
	exported = operator
}

// typed makes columns of rows that are structs.
type typed[In, Out any] struct {
	operator any
	options  []Option
	each     func(row In, out *tidemill.Emitter[Out]) error
	batch    func(rows tidemill.Rows[In], out *tidemill.Emitter[Out]) error
	in       *tidemill.Layout[In]
	out      *tidemill.Emitter[Out]
	row      In
}

func (t *typed[In, Out]) Plan(step *tidemill.Step, input tidemill.Schema) (*Plan, error) {
	if err := tidemill.Configure(t.operator, step); err != nil {
		return nil, err
	}
	in, err := tidemill.LayoutOf[In]()
	if err != nil {
		return nil, err
	}
	out, err := tidemill.LayoutOf[Out]()
	if err != nil {
		return nil, err
	}
	if err := in.Check(input, nil, ""); err != nil {
		return nil, err
	}
	plan := &Plan{Reads: in.Names(), Writes: out.Schema}
	for _, option := range t.options {
		option(plan)
	}
	t.in = in
	t.out = tidemill.NewEmitter(out, 1, plan.CarriesAll || len(plan.Carries) > 0)
	return plan, nil
}

func (t *typed[In, Out]) ProcessColumns(call *tidemill.Call, input *tidemill.Batch, out *Output) error {
	rows, err := tidemill.RowsOf(t.in, input)
	if err != nil {
		return err
	}
	t.out.Reset(call)
	if t.batch != nil {
		for i := range rows.Len() {
			if name := rows.NullColumn(i); name != "" {
				t.out.Reject(tidemill.RowNumber(i), "column `%s` is null", name)
			}
		}
		return t.batch(rows, t.out)
	}
	for i := range rows.Len() {
		if name := rows.NullColumn(i); name != "" {
			t.out.Reject(tidemill.RowNumber(i), "column `%s` is null", name)
			continue
		}
		t.out.At(i)
		rows.Read(i, &t.row)
		if err := t.each(t.row, t.out); err != nil {
			if tidemill.IsFailure(err) {
				return err
			}
			t.out.Reject(tidemill.RowNumber(i), "%s", err)
		}
	}
	return nil
}

// finisher is an operator that has emitted into something of its own.
type finisher interface {
	finish() (rows tidemill.RawBatch, from []uint32, rejected [][]tidemill.Rejection, err error)
}

func (t *typed[In, Out]) finish() (tidemill.RawBatch, []uint32, [][]tidemill.Rejection, error) {
	return t.out.Finish()
}

// result is what crosses.
type result struct {
	rows     tidemill.RawBatch
	origin   []uint32
	rejected []tidemill.Rejection
}

var (
	plan  *Plan
	reads tidemill.Schema
	batch tidemill.Batch
	table *tidemill.Table
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
	table = tidemill.NewTable(made.Writes)
	return made, nil
}

func process(call *tidemill.Call, raw tidemill.RawBatch) (result, error) {
	batch.Lift(raw, reads)
	table.Reset()
	out := Output{Table: table}
	if err := exported.ProcessColumns(call, &batch, &out); err != nil {
		return result{}, err
	}
	if own, ok := exported.(finisher); ok {
		rows, from, rejected, err := own.finish()
		if !plan.CarriesAll && len(plan.Carries) == 0 || isIdentity(from, batch.Rows) {
			from = nil
		} else if from == nil {
			from = []uint32{}
		}
		return result{rows, from, rejected[0]}, err
	}
	rows, err := table.Finish()
	return result{rows, out.Origin, out.Rejected}, err
}

func isIdentity(from []uint32, n int) bool {
	if len(from) != n {
		return false
	}
	for i, row := range from {
		if row != uint32(i) {
			return false
		}
	}
	return true
}
