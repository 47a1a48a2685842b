package grouper

import (
	"github.com/tidemill/tidemill/guest-sdk/go/internal/abi"
)

//go:wasmexport tidemill:operator/grouper@0.1.0#open
func exportOpen(job, jobN, step, stepN, partitions, config, configN, keys, keysN, inputs, inputsN uint32) uint32 {
	if exported == nil {
		return abi.Refusal(abi.ErrNoOperator)
	}
	plan, err := open(abi.Step(job, jobN, step, stepN, partitions, config, configN), abi.Schema(keys, keysN), abi.Schemas(inputs, inputsN))
	if err != nil {
		return abi.Refusal(err)
	}
	r := abi.NewRecord(20)
	reads := abi.NewRecord(12 * inputsN)
	for i, names := range plan.Reads {
		if names != nil {
			reads.Some(uint32(12*i)).Texts(0, names)
		}
	}
	r.U32(4, reads.At())
	r.U32(8, inputsN)
	r.Schema(12, plan.Writes)
	return r.At()
}

//go:wasmexport tidemill:operator/grouper@0.1.0#process
func exportProcess(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers, inputs, inputsN uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	keys := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	var read []input
	for _, grouped := range abi.Groups(inputs, inputsN) {
		read = append(read, input{grouped.Rows.Read(), grouped.Ends.U32s()})
	}
	made, err := process(call, keys.Read(), read)
	if err != nil {
		return abi.Failure(err)
	}
	r := abi.NewRecord(40)
	r.Batch(4, made.rows)
	abi.Items(r, 24, made.group)
	rejected := abi.NewRecord(8 * inputsN)
	for i := range made.rejected {
		rejected.Rejections(uint32(8*i), made.rejected[i])
	}
	r.U32(32, rejected.At())
	r.U32(36, inputsN)
	return r.At()
}

//go:wasmexport cabi_post_tidemill:operator/grouper@0.1.0#open
func postOpen(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/grouper@0.1.0#process
func postProcess(uint32) { abi.End() }
