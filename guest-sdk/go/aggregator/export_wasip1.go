package aggregator

import "github.com/tidemill/tidemill/guest-sdk/go/internal/abi"

//go:wasmexport tidemill:operator/aggregator@0.1.0#open
func exportOpen(job, jobN, step, stepN, partitions, config, configN, values, valuesN uint32) uint32 {
	if exported == nil {
		return abi.Refusal(abi.ErrNoOperator)
	}
	plan, err := open(abi.Step(job, jobN, step, stepN, partitions, config, configN), abi.Schema(values, valuesN))
	if err != nil {
		return abi.Refusal(err)
	}
	r := abi.NewRecord(32)
	if !plan.ReadsAll {
		r.Some(4).Texts(0, plan.Reads)
	}
	r.Schema(16, plan.Accumulator)
	r.Schema(24, plan.Result)
	return r.At()
}

//go:wasmexport tidemill:operator/aggregator@0.1.0#accumulate
func exportAccumulate(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers, ends, nEnds uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	batch := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	return abi.BatchResult(accumulate(call, batch.Read(), abi.ListOf{At: ends, N: nEnds}.U32s()))
}

//go:wasmexport tidemill:operator/aggregator@0.1.0#merge
func exportMerge(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers, ends, nEnds uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	batch := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	return abi.BatchResult(merge(call, batch.Read(), abi.ListOf{At: ends, N: nEnds}.U32s()))
}

//go:wasmexport tidemill:operator/aggregator@0.1.0#finish
func exportFinish(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	batch := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	return abi.BatchResult(finish(call, batch.Read()))
}

//go:wasmexport cabi_post_tidemill:operator/aggregator@0.1.0#open
func postOpen(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/aggregator@0.1.0#accumulate
func postAccumulate(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/aggregator@0.1.0#merge
func postMerge(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/aggregator@0.1.0#finish
func postFinish(uint32) { abi.End() }
