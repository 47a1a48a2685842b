// Package updater exports an operator as an updater: a key's state and its new rows in, rows out. The host keeps the state: a crash
// loses nothing of it and sees nothing of it twice.
//
// Call one of its functions in `init`. The operator is a pointer to a struct, into which the step's configuration is decoded: as
// with package transform. The struct of the key has columns of the step's keys; `struct{}` reads none of them. What is emitted
// is put behind the key's columns.
package updater

import (
	"math"
	"time"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

// Operator is called with each key's new rows and its state. It has no rows when it timed out, and with [EveryKey] whenever the
// batch has none. An error fails the call: what cannot be processed is rejected with out.Reject.
type Operator[Key, In, S, Out any] interface {
	Update(key Key, rows tidemill.GroupRows[In], state *State[S], out *tidemill.Emitter[Out]) error
}

// Timeouts is which time the timeouts of keys are held against.
type Timeouts uint8

// The times of the contract.
const (
	Never Timeouts = iota
	BatchTime
	EventTime
)

// Plan is what an updater reads, keeps and writes.
type Plan struct {
	// Reads are the columns that are sent, in this order; ReadsAll sends all.
	Reads    []string
	ReadsAll bool
	// State are the columns of a key's state, and Writes those that come back, without the keys.
	State, Writes tidemill.Schema
	// EveryKey has it called for every key that has state, and not only for those with rows.
	EveryKey bool
	// Timeouts is what its timeouts are held against.
	Timeouts Timeouts
}

// Option says more of an operator.
type Option func(*Plan)

// EveryKey has it called for every key that has state: a batch then costs as much as there is state.
func EveryKey() Option { return func(plan *Plan) { plan.EveryKey = true } }

// TimeoutsIn has its timeouts held against a time.
func TimeoutsIn(timeouts Timeouts) Option { return func(plan *Plan) { plan.Timeouts = timeouts } }

// What becomes of a key's state, in [Output.Changes].
const (
	Keep   byte = 0
	Put    byte = 1
	Remove byte = 2
)

// What Output.TimeoutsUs says besides times.
const (
	NoTimeout   = math.MaxInt64
	SameTimeout = math.MinInt64
)

// Input is some keys, each with its new rows and its state, as the contract's `input`.
type Input struct {
	Keys, Values, State tidemill.Batch
	Ends                []uint32
	HasState, TimedOut  []byte
}

// Output takes what comes of a call.
type Output struct {
	*tidemill.Table
	// Group is the key of each row, by its number; never less than the one before.
	Group []uint32
	// NewState are the new states, one row for each Put among Changes.
	NewState *tidemill.Table
	// Changes has Keep for every key, to be changed, and TimeoutsUs SameTimeout.
	Changes    []byte
	TimeoutsUs []int64
	Rejected   []tidemill.Rejection
}

// Columns is an updater whose columns depend on the configuration or on the input.
type Columns interface {
	// Plan type-checks the step.
	Plan(step *tidemill.Step, keys, values tidemill.Schema) (*Plan, error)
	// UpdateColumns updates some keys.
	UpdateColumns(call *tidemill.Call, input *Input, out *Output) error
}

// Export exports an operator.
func Export[Key, In, S, Out any](operator Operator[Key, In, S, Out], options ...Option) {
	ExportColumns(&typed[Key, In, S, Out]{operator: operator, options: options})
}

// ExportColumns exports an operator on columns.
func ExportColumns(operator Columns) {
	if exported != nil {
		panic("a plugin has one updater")
	}
	exported = operator
}

// State is a key's state, and its timeout. Nothing happens to either unless it is asked for here.
type State[S any] struct {
	value              S
	exists, had, isSet bool
	timedOut           bool
	timeoutUs          int64
	timeouts           Timeouts
	call               *tidemill.Call
	misuse             string
}

// Get gives the state, and whether there is some.
func (s *State[S]) Get() (S, bool) { return s.value, s.exists }

// Set puts a state in the place of what there is.
func (s *State[S]) Set(state S) { s.value, s.exists, s.isSet = state, true, true }

// Remove removes the state, and the timeout with it.
func (s *State[S]) Remove() {
	var none S
	s.value, s.exists, s.isSet, s.timeoutUs = none, false, false, NoTimeout
}

// TimedOut says whether the key is called because its timeout was due: without rows, and the timeout is gone.
func (s *State[S]) TimedOut() bool { return s.timedOut }

// SetTimeout has the key called, as timed out, in the first batch whose time, or whose watermark, is not before `at`.
func (s *State[S]) SetTimeout(at tidemill.Timestamp) {
	if s.timeouts == Never {
		s.misuse = "it sets a timeout, and is exported without `updater.TimeoutsIn`"
	}
	// The two ends of the range have meanings of their own.
	s.timeoutUs = min(max(int64(at), SameTimeout+1), NoTimeout-1)
}

// SetTimeoutAfter has the key called, as timed out, this long after the batch's time: where timeouts are held against that.
func (s *State[S]) SetTimeoutAfter(duration time.Duration) {
	if s.timeouts == EventTime {
		s.misuse = "`SetTimeoutAfter` counts from the batch's time, and its timeouts are in event time"
	}
	at := int64(s.call.BatchTime)
	if us := duration.Microseconds(); us > 0 && at > NoTimeout-us {
		at = NoTimeout
	} else {
		at += us
	}
	s.SetTimeout(tidemill.Timestamp(at))
}

// ClearTimeout takes the timeout away.
func (s *State[S]) ClearTimeout() { s.timeoutUs = NoTimeout }

type typed[Key, In, S, Out any] struct {
	operator Operator[Key, In, S, Out]
	options  []Option
	plan     *Plan
	keys     *tidemill.Layout[Key]
	in       *tidemill.Layout[In]
	states   *tidemill.Layout[S]
	out      *tidemill.Emitter[Out]
	key      Key
	state    State[S]
}

func (t *typed[Key, In, S, Out]) Plan(step *tidemill.Step, keys, values tidemill.Schema) (*Plan, error) {
	err := tidemill.Configure(t.operator, step)
	if err != nil {
		return nil, err
	}
	if t.keys, err = tidemill.LayoutOf[Key](); err != nil {
		return nil, err
	}
	if t.in, err = tidemill.LayoutOf[In](); err != nil {
		return nil, err
	}
	if t.states, err = tidemill.LayoutOf[S](); err != nil {
		return nil, err
	}
	out, err := tidemill.LayoutOf[Out]()
	if err != nil {
		return nil, err
	}
	t.out = tidemill.NewEmitter(out, 1, true)
	if err := t.keys.Check(keys, nil, "among the keys, "); err != nil {
		return nil, err
	}
	t.plan = &Plan{Reads: t.in.Names(), State: t.states.Schema, Writes: out.Schema}
	for _, option := range t.options {
		option(t.plan)
	}
	return t.plan, t.in.Check(values, keys, "")
}

func (t *typed[Key, In, S, Out]) UpdateColumns(call *tidemill.Call, input *Input, out *Output) error {
	keys, err := tidemill.RowsOf(t.keys, &input.Keys)
	if err != nil {
		return err
	}
	values, err := tidemill.RowsOf(t.in, &input.Values)
	if err != nil {
		return err
	}
	states, err := tidemill.RowsOf(t.states, &input.State)
	if err != nil {
		return err
	}
	grouped := tidemill.GroupedOf(values, input.Ends, 0)
	t.out.Reset(call)
	nStates := 0
	for key := range input.Keys.Rows {
		t.out.At(key)
		hasState := input.HasState[key] != 0
		t.state = State[S]{exists: hasState, had: hasState, timedOut: input.TimedOut[key] != 0, timeoutUs: SameTimeout, timeouts: t.plan.Timeouts, call: call}
		if hasState {
			states.Read(nStates, &t.state.value)
			nStates++
		}
		reason := ""
		if name := keys.NullColumn(key); name != "" {
			reason = "key column `" + name + "` is null"
		}
		rows, n, of := tidemill.Go(grouped, key, reason, t.out)
		// All rows that it is called for have been rejected.
		if reason != "" || of > 0 && n == 0 && !(hasState && t.plan.EveryKey) {
			continue
		}
		keys.Read(key, &t.key)
		if err := t.operator.Update(t.key, rows, &t.state, t.out); err != nil {
			return err
		}
		state := &t.state
		if state.misuse == "" && !state.exists && state.timeoutUs != SameTimeout && state.timeoutUs != NoTimeout {
			state.misuse = "it sets a timeout for a key that it leaves without state"
		}
		if state.misuse != "" {
			return tidemill.Failed("%s", state.misuse)
		}
		switch {
		case state.isSet:
			t.states.Append(out.NewState, &state.value)
			out.Changes[key] = Put
		case state.had && !state.exists:
			out.Changes[key] = Remove
		}
		if state.exists {
			out.TimeoutsUs[key] = state.timeoutUs
		}
	}
	return nil
}

// finisher is an operator that has emitted into something of its own.
type finisher interface {
	finish() (rows tidemill.RawBatch, from []uint32, rejected [][]tidemill.Rejection, err error)
}

func (t *typed[Key, In, S, Out]) finish() (tidemill.RawBatch, []uint32, [][]tidemill.Rejection, error) {
	return t.out.Finish()
}

// result is what crosses.
type result struct {
	rows, state tidemill.RawBatch
	group       []uint32
	rejected    []tidemill.Rejection
	changes     []byte
	timeoutsUs  []int64
}

// input is what crosses the other way.
type input struct {
	keys, values, state tidemill.RawBatch
	ends                []uint32
	hasState, timedOut  []byte
}

var (
	exported  Columns
	plan      *Plan
	keySchema tidemill.Schema
	reads     tidemill.Schema
	read      Input
	out       Output
)

func open(step *tidemill.Step, keys, values tidemill.Schema) (*Plan, error) {
	made, err := exported.Plan(step, keys, values)
	if err != nil {
		return nil, err
	}
	plan, keySchema, reads = made, keys, values
	if !made.ReadsAll {
		if reads, err = tidemill.Pick(values, made.Reads); err != nil {
			return nil, err
		}
	}
	out.Table, out.NewState = tidemill.NewTable(made.Writes), tidemill.NewTable(made.State)
	return made, nil
}

func update(call *tidemill.Call, in *input) (result, error) {
	read.Keys.Lift(in.keys, keySchema)
	read.Values.Lift(in.values, reads)
	read.State.Lift(in.state, plan.State)
	read.Ends, read.HasState, read.TimedOut = in.ends, in.hasState, in.timedOut
	out.Table.Reset()
	out.NewState.Reset()
	out.Group, out.Rejected, out.Changes, out.TimeoutsUs = out.Group[:0], nil, out.Changes[:0], out.TimeoutsUs[:0]
	for range read.Keys.Rows {
		out.Changes, out.TimeoutsUs = append(out.Changes, Keep), append(out.TimeoutsUs, SameTimeout)
	}
	if err := exported.UpdateColumns(call, &read, &out); err != nil {
		return result{}, err
	}
	made := result{group: out.Group, rejected: out.Rejected, changes: out.Changes}
	for _, timeout := range out.TimeoutsUs {
		if timeout != SameTimeout && plan.Timeouts != Never {
			made.timeoutsUs = out.TimeoutsUs
		}
	}
	var err error
	if made.state, err = out.NewState.Finish(); err != nil {
		return made, err
	}
	if own, ok := exported.(finisher); ok {
		var rejected [][]tidemill.Rejection
		made.rows, made.group, rejected, err = own.finish()
		made.rejected = rejected[0]
		return made, err
	}
	made.rows, err = out.Table.Finish()
	return made, err
}
