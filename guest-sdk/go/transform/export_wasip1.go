package transform

import "github.com/tidemill/tidemill/guest-sdk/go/internal/abi"

//go:wasmexport tidemill:operator/transform@0.1.0#open
func exportOpen(job, jobN, step, stepN, partitions, config, configN, input, inputN uint32) uint32 {
	if exported == nil {
		return abi.Refusal(abi.ErrNoOperator)
	}
	plan, err := open(abi.Step(job, jobN, step, stepN, partitions, config, configN), abi.Schema(input, inputN))
	if err != nil {
		return abi.Refusal(err)
	}
	r := abi.NewRecord(36)
	if !plan.ReadsAll {
		r.Some(4).Texts(0, plan.Reads)
	}
	r.Schema(16, plan.Writes)
	switch {
	case plan.CarriesAll:
		r.U8(24, 1)
	case len(plan.Carries) > 0:
		r.U8(24, 2)
		r.Texts(28, plan.Carries)
	}
	return r.At()
}

//go:wasmexport tidemill:operator/transform@0.1.0#process
func exportProcess(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	input := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	made, err := process(call, input.Read())
	if err != nil {
		return abi.Failure(err)
	}
	r := abi.NewRecord(44)
	r.Batch(4, made.rows)
	if made.origin != nil {
		abi.Items(r.Some(24), 0, made.origin)
	}
	r.Rejections(36, made.rejected)
	return r.At()
}

//go:wasmexport cabi_post_tidemill:operator/transform@0.1.0#open
func postOpen(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/transform@0.1.0#process
func postProcess(uint32) { abi.End() }
