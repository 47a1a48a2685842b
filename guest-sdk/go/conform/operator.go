// Conform is the conformance operator in Go, in all roles: see docs/conformance.md.
package main

import (
	"fmt"
	"reflect"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/aggregator"
	"github.com/tidemill/tidemill/guest-sdk/go/grouper"
	"github.com/tidemill/tidemill/guest-sdk/go/reducer"
	"github.com/tidemill/tidemill/guest-sdk/go/transform"
	"github.com/tidemill/tidemill/guest-sdk/go/updater"
)

func init() {
	transform.ExportColumns(&echo{})
	reducer.ExportColumns(&last{})
	aggregator.ExportColumns(&countAndLast{})
	grouper.ExportColumns(&reversed{})
	updater.ExportColumns(&countInState{})
}

func main() {}

var rowsField = tidemill.MustField("rows", "int64")

// echo writes what it reads.
type echo struct{ config config }

func (e *echo) Plan(step *tidemill.Step, input tidemill.Schema) (*transform.Plan, error) {
	if err := e.config.open(step); err != nil {
		return nil, err
	}
	if e.config.Carry {
		return &transform.Plan{CarriesAll: true}, nil
	}
	return &transform.Plan{ReadsAll: true, Writes: input}, nil
}

func (e *echo) ProcessColumns(call *tidemill.Call, input *tidemill.Batch, out *transform.Output) error {
	repeat := 1
	if e.config.Repeat != nil {
		repeat = *e.config.Repeat
	}
	out.Origin = []uint32{}
	for row := range input.Rows {
		number := call.FirstRow + uint64(row)
		if e.config.rejects(number) {
			out.Rejected = append(out.Rejected, tidemill.Rejection{Row: uint32(row), Reason: fmt.Sprintf("row %d is rejected", number)})
			continue
		}
		for range repeat {
			e.config.put(out.Table, 0, input, 0, row)
			out.EndRow()
			out.Origin = append(out.Origin, uint32(row))
		}
	}
	return e.config.begin(input.Rows)
}

// last keeps the last row of each group.
type last struct{ config config }

func (l *last) Plan(step *tidemill.Step, _ tidemill.Schema) (bool, error) {
	err := l.config.openWithoutRejections(step)
	return l.config.Invertible, err
}

func (l *last) ReduceColumns(_ *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	for _, end := range ends {
		l.config.put(out, 0, values, 0, int(end)-1)
	}
	return l.config.begin(values.Rows)
}

func (l *last) InvertColumns(_ *tidemill.Call, whole, _ *tidemill.Batch, out *tidemill.Table) error {
	for row := range whole.Rows {
		l.config.put(out, 0, whole, 0, row)
	}
	return nil
}

// countAndLast counts rows, and keeps the last.
type countAndLast struct{ config config }

func (a *countAndLast) Plan(step *tidemill.Step, values tidemill.Schema) (*aggregator.Plan, error) {
	if err := a.config.openWithoutRejections(step); err != nil {
		return nil, err
	}
	accumulator, err := behind(values, rowsField)
	return &aggregator.Plan{ReadsAll: true, Accumulator: accumulator, Result: accumulator}, err
}

func (a *countAndLast) AccumulateColumns(_ *tidemill.Call, values *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	start := uint32(0)
	for _, end := range ends {
		tidemill.Put(out.Column(0), int64(end-start))
		a.config.put(out, 1, values, 0, int(end)-1)
		start = end
	}
	return a.config.begin(values.Rows)
}

func (a *countAndLast) MergeColumns(_ *tidemill.Call, accumulators *tidemill.Batch, ends []uint32, out *tidemill.Table) error {
	counts, start := tidemill.Values[int64](&accumulators.Columns[0]), uint32(0)
	for _, end := range ends {
		sum := int64(0)
		for _, count := range counts[start:end] {
			sum += count
		}
		tidemill.Put(out.Column(0), sum)
		a.config.put(out, 1, accumulators, 1, int(end)-1)
		start = end
	}
	return a.config.begin(accumulators.Rows)
}

func (a *countAndLast) FinishColumns(_ *tidemill.Call, accumulators *tidemill.Batch, out *tidemill.Table) error {
	for row := range accumulators.Rows {
		a.config.put(out, 0, accumulators, 0, row)
	}
	return a.config.begin(accumulators.Rows)
}

// reversed gives the rows of each group, the last first.
type reversed struct{ config config }

func (r *reversed) Plan(step *tidemill.Step, _ tidemill.Schema, inputs []tidemill.Schema) (*grouper.Plan, error) {
	if err := r.config.open(step); err != nil {
		return nil, err
	}
	for _, input := range inputs {
		if len(input) != len(inputs[0]) || len(input) > 0 && !reflect.DeepEqual(input, inputs[0]) {
			return nil, tidemill.WrongSchema("the inputs have different columns")
		}
	}
	return &grouper.Plan{Reads: make([][]string, len(inputs)), Writes: inputs[0]}, nil
}

func (r *reversed) ProcessColumns(_ *tidemill.Call, keys *tidemill.Batch, inputs []grouper.Input, out *grouper.Output) error {
	rows := 0
	for i := range inputs {
		rows += inputs[i].Rows
		for row := range inputs[i].Rows {
			if r.config.rejects(uint64(row)) {
				reason := fmt.Sprintf("row %d of input %d is rejected", row, i)
				out.Rejected[i] = append(out.Rejected[i], tidemill.Rejection{Row: uint32(row), Reason: reason})
			}
		}
	}
	for group := range keys.Rows {
		for i := range inputs {
			start := 0
			if group > 0 {
				start = int(inputs[i].Ends[group-1])
			}
			for row := int(inputs[i].Ends[group]) - 1; row >= start; row-- {
				if r.config.rejects(uint64(row)) {
					continue
				}
				r.config.put(out.Table, 0, &inputs[i].Batch, 0, row)
				out.EndRow()
				out.Group = append(out.Group, uint32(group))
			}
		}
	}
	return r.config.begin(rows)
}

// countInState counts rows and keeps the last, as state.
type countInState struct {
	config   config
	timeouts updater.Timeouts
}

func (u *countInState) Plan(step *tidemill.Step, _, values tidemill.Schema) (*updater.Plan, error) {
	if err := u.config.open(step); err != nil {
		return nil, err
	}
	writes, err := behind(values, rowsField, tidemill.MustField("timed_out", "boolean"))
	if err != nil {
		return nil, err
	}
	state, err := behind(values, rowsField)
	u.timeouts = map[string]updater.Timeouts{"batch-time": updater.BatchTime, "event-time": updater.EventTime}[u.config.Timeouts]
	return &updater.Plan{ReadsAll: true, State: state, Writes: writes, EveryKey: u.config.EveryKey, Timeouts: u.timeouts}, err
}

func (u *countInState) UpdateColumns(call *tidemill.Call, input *updater.Input, out *updater.Output) error {
	emit := func(key int, count int64, timedOut bool, from *tidemill.Batch, first, row int) {
		tidemill.Put(out.Column(0), count)
		out.Column(1).PutBool(timedOut)
		u.config.put(out.Table, 2, from, first, row)
		out.EndRow()
		out.Group = append(out.Group, uint32(key))
	}
	state, start := -1, 0
	for key := range input.Keys.Rows {
		end := int(input.Ends[key])
		before, hasState := int64(0), input.HasState[key] != 0
		if hasState {
			state++
			before = tidemill.Values[int64](&input.State.Columns[0])[state]
		}
		n, last := int64(0), 0
		for row := start; row < end; row++ {
			if u.config.rejects(uint64(row)) {
				out.Rejected = append(out.Rejected, tidemill.Rejection{Row: uint32(row), Reason: fmt.Sprintf("row %d is rejected", row)})
				continue
			}
			n, last = n+1, row
		}
		switch {
		case input.TimedOut[key] != 0:
			emit(key, before, true, &input.State, 1, state)
			out.Changes[key] = updater.Remove
		case n > 0:
			emit(key, before+n, false, &input.Values, 0, last)
			if u.config.RemoveAt != nil && before+n >= *u.config.RemoveAt {
				out.Changes[key] = updater.Remove
				break
			}
			out.Changes[key] = updater.Put
			tidemill.Put(out.NewState.Column(0), before+n)
			u.config.put(out.NewState, 1, &input.Values, 0, last)
			out.NewState.EndRow()
			if u.config.TimeoutUs != nil && u.timeouts == updater.BatchTime {
				out.TimeoutsUs[key] = int64(call.BatchTime) + *u.config.TimeoutUs
			}
			if u.config.TimeoutUs != nil && u.timeouts == updater.EventTime {
				out.TimeoutsUs[key] = int64(call.Watermark.Or(0)) + *u.config.TimeoutUs
			}
		case start == end && hasState:
			emit(key, before, false, &input.State, 1, state)
		}
		start = end
	}
	return u.config.begin(input.Values.Rows)
}
