// Package grouper exports an operator as a grouper: all rows of a key at once, of one input or of two.
//
// Call one of its functions in `init`. The operator is a pointer to a struct, into which the step's configuration is decoded: as
// with package transform. The struct of the key has columns of the step's keys; `struct{}` reads none of them. What is emitted
// is put behind the key's columns.
package grouper

import tidemill "github.com/tidemill/tidemill/guest-sdk/go"

// Operator is called with the rows of each key, of which there are some; they can be gone through as often as it likes. An error
// fails the call: what cannot be processed is rejected with out.Reject.
type Operator[Key, In, Out any] interface {
	Process(key Key, rows tidemill.GroupRows[In], out *tidemill.Emitter[Out]) error
}

// PairOperator is called with the rows of each key in two inputs; in one of them there are some.
type PairOperator[Key, Left, Right, Out any] interface {
	ProcessPair(key Key, left tidemill.GroupRows[Left], right tidemill.GroupRows[Right], out *tidemill.Emitter[Out]) error
}

// Input is the rows of one input, cut into groups: Ends[i] is the exclusive end of group i.
type Input struct {
	tidemill.Batch
	Ends []uint32
}

// Plan is what a grouper reads and writes.
type Plan struct {
	// Reads are, for each input, the columns that are sent; nil sends all.
	Reads [][]string
	// Writes are the columns that come back, without the keys.
	Writes tidemill.Schema
}

// Output takes what comes of a call.
type Output struct {
	*tidemill.Table
	// Group is the group of each row; never less than the one before.
	Group []uint32
	// Rejected are, for each input, rows that cannot be processed.
	Rejected [][]tidemill.Rejection
}

// Columns is a grouper whose columns depend on the configuration or on the input.
type Columns interface {
	// Plan type-checks the step.
	Plan(step *tidemill.Step, keys tidemill.Schema, inputs []tidemill.Schema) (*Plan, error)
	// ProcessColumns processes some groups: row i of keys is the key of group i.
	ProcessColumns(call *tidemill.Call, keys *tidemill.Batch, inputs []Input, out *Output) error
}

// Export exports an operator on one input.
func Export[Key, In, Out any](operator Operator[Key, In, Out]) {
	ExportColumns(&typed[Key, In, struct{}, Out]{operator: operator, one: operator.Process})
}

// ExportPair exports an operator on two inputs.
func ExportPair[Key, Left, Right, Out any](operator PairOperator[Key, Left, Right, Out]) {
	ExportColumns(&typed[Key, Left, Right, Out]{operator: operator, two: operator.ProcessPair})
}

// ExportColumns exports an operator on columns.
func ExportColumns(operator Columns) {
	if exported != nil {
		panic("a plugin has one grouper")
	}
	exported = operator
}

type typed[Key, Left, Right, Out any] struct {
	operator any
	one      func(key Key, rows tidemill.GroupRows[Left], out *tidemill.Emitter[Out]) error
	two      func(key Key, left tidemill.GroupRows[Left], right tidemill.GroupRows[Right], out *tidemill.Emitter[Out]) error
	keys     *tidemill.Layout[Key]
	left     *tidemill.Layout[Left]
	right    *tidemill.Layout[Right]
	out      *tidemill.Emitter[Out]
	key      Key
}

func (t *typed[Key, Left, Right, Out]) nInputs() int {
	if t.two != nil {
		return 2
	}
	return 1
}

func (t *typed[Key, Left, Right, Out]) Plan(step *tidemill.Step, keys tidemill.Schema, inputs []tidemill.Schema) (*Plan, error) {
	err := tidemill.Configure(t.operator, step)
	if err != nil {
		return nil, err
	}
	if len(inputs) != t.nInputs() {
		return nil, tidemill.WrongSchema("the step has %d inputs, %d are expected", len(inputs), t.nInputs())
	}
	if t.keys, err = tidemill.LayoutOf[Key](); err != nil {
		return nil, err
	}
	if t.left, err = tidemill.LayoutOf[Left](); err != nil {
		return nil, err
	}
	if t.right, err = tidemill.LayoutOf[Right](); err != nil {
		return nil, err
	}
	out, err := tidemill.LayoutOf[Out]()
	if err != nil {
		return nil, err
	}
	t.out = tidemill.NewEmitter(out, len(inputs), true)
	if err := t.keys.Check(keys, nil, "among the keys, "); err != nil {
		return nil, err
	}
	plan := &Plan{Reads: [][]string{t.left.Names()}, Writes: out.Schema}
	where := ""
	if t.two != nil {
		where = "in the first input, "
		plan.Reads = append(plan.Reads, t.right.Names())
		if err := t.right.Check(inputs[1], keys, "in the second input, "); err != nil {
			return nil, err
		}
	}
	return plan, t.left.Check(inputs[0], keys, where)
}

func (t *typed[Key, Left, Right, Out]) ProcessColumns(call *tidemill.Call, keys *tidemill.Batch, inputs []Input, _ *Output) error {
	keyRows, err := tidemill.RowsOf(t.keys, keys)
	if err != nil {
		return err
	}
	leftRows, err := tidemill.RowsOf(t.left, &inputs[0].Batch)
	if err != nil {
		return err
	}
	left := tidemill.GroupedOf(leftRows, inputs[0].Ends, 0)
	var right *tidemill.Grouped[Right]
	if t.two != nil {
		rightRows, err := tidemill.RowsOf(t.right, &inputs[1].Batch)
		if err != nil {
			return err
		}
		right = tidemill.GroupedOf(rightRows, inputs[1].Ends, 1)
	}
	t.out.Reset(call)
	for group := range keys.Rows {
		t.out.At(group)
		reason := ""
		if name := keyRows.NullColumn(group); name != "" {
			reason = "key column `" + name + "` is null"
		}
		rows, n, _ := tidemill.Go(left, group, reason, t.out)
		if right == nil {
			if n > 0 {
				keyRows.Read(group, &t.key)
				err = t.one(t.key, rows, t.out)
			}
		} else {
			others, m, _ := tidemill.Go(right, group, reason, t.out)
			if n+m > 0 {
				keyRows.Read(group, &t.key)
				err = t.two(t.key, rows, others, t.out)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finisher is an operator that has emitted into something of its own.
type finisher interface {
	finish() (rows tidemill.RawBatch, from []uint32, rejected [][]tidemill.Rejection, err error)
}

func (t *typed[Key, Left, Right, Out]) finish() (tidemill.RawBatch, []uint32, [][]tidemill.Rejection, error) {
	return t.out.Finish()
}

// result is what crosses.
type result struct {
	rows     tidemill.RawBatch
	group    []uint32
	rejected [][]tidemill.Rejection
}

// input is one of them as it crosses.
type input struct {
	rows tidemill.RawBatch
	ends []uint32
}

var (
	exported  Columns
	keySchema tidemill.Schema
	reads     []tidemill.Schema
	keys      tidemill.Batch
	inputs    []Input
	table     *tidemill.Table
)

func open(step *tidemill.Step, ofKeys tidemill.Schema, ofInputs []tidemill.Schema) (*Plan, error) {
	plan, err := exported.Plan(step, ofKeys, ofInputs)
	if err != nil {
		return nil, err
	}
	keySchema, inputs = ofKeys, make([]Input, len(ofInputs))
	for i, schema := range ofInputs {
		if plan.Reads[i] != nil {
			if schema, err = tidemill.Pick(schema, plan.Reads[i]); err != nil {
				return nil, err
			}
		}
		reads = append(reads, schema)
	}
	table = tidemill.NewTable(plan.Writes)
	return plan, nil
}

func process(call *tidemill.Call, ofKeys tidemill.RawBatch, ofInputs []input) (result, error) {
	keys.Lift(ofKeys, keySchema)
	for i := range ofInputs {
		inputs[i].Lift(ofInputs[i].rows, reads[i])
		inputs[i].Ends = ofInputs[i].ends
	}
	table.Reset()
	out := Output{Table: table, Rejected: make([][]tidemill.Rejection, len(inputs))}
	if err := exported.ProcessColumns(call, &keys, inputs, &out); err != nil {
		return result{}, err
	}
	if own, ok := exported.(finisher); ok {
		rows, from, rejected, err := own.finish()
		return result{rows, from, rejected}, err
	}
	rows, err := table.Finish()
	return result{rows, out.Group, out.Rejected}, err
}
