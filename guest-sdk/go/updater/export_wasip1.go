package updater

import "github.com/tidemill/tidemill/guest-sdk/go/internal/abi"

//go:wasmexport tidemill:operator/updater@0.1.0#open
func exportOpen(job, jobN, step, stepN, partitions, config, configN, keys, keysN, values, valuesN uint32) uint32 {
	if exported == nil {
		return abi.Refusal(abi.ErrNoOperator)
	}
	plan, err := open(abi.Step(job, jobN, step, stepN, partitions, config, configN), abi.Schema(keys, keysN), abi.Schema(values, valuesN))
	if err != nil {
		return abi.Refusal(err)
	}
	r := abi.NewRecord(36)
	if !plan.ReadsAll {
		r.Some(4).Texts(0, plan.Reads)
	}
	r.Schema(16, plan.State)
	r.Schema(24, plan.Writes)
	if plan.EveryKey {
		r.U8(32, 1)
	}
	r.U8(33, uint8(plan.Timeouts))
	return r.At()
}

//go:wasmexport tidemill:operator/updater@0.1.0#update
func exportUpdate(arguments uint32) uint32 {
	a := abi.At[struct {
		of                 abi.Of
		keys, values       abi.BatchOf
		ends               abi.ListOf
		state              abi.BatchOf
		hasState, timedOut abi.ListOf
	}](arguments)
	made, err := update(a.of.Read(), &input{
		keys: a.keys.Read(), values: a.values.Read(), state: a.state.Read(),
		ends: a.ends.U32s(), hasState: a.hasState.Bytes(), timedOut: a.timedOut.Bytes(),
	})
	if err != nil {
		return abi.Failure(err)
	}
	r := abi.NewRecord(80)
	abi.Items(r, 4, made.changes)
	r.Batch(12, made.state)
	if made.timeoutsUs != nil {
		abi.Items(r.Some(32), 0, made.timeoutsUs)
	}
	r.Batch(44, made.rows)
	abi.Items(r, 64, made.group)
	r.Rejections(72, made.rejected)
	return r.At()
}

//go:wasmexport cabi_post_tidemill:operator/updater@0.1.0#open
func postOpen(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/updater@0.1.0#update
func postUpdate(uint32) { abi.End() }
