package reducer

import (
	"github.com/tidemill/tidemill/guest-sdk/go/internal/abi"
)

//go:wasmexport tidemill:operator/reducer@0.1.0#open
func exportOpen(job, jobN, step, stepN, partitions, config, configN, values, valuesN uint32) uint32 {
	if exported == nil {
		return abi.Refusal(abi.ErrNoOperator)
	}
	invertible, err := open(abi.Step(job, jobN, step, stepN, partitions, config, configN), abi.Schema(values, valuesN))
	if err != nil {
		return abi.Refusal(err)
	}
	r := abi.NewRecord(16)
	if invertible {
		r.U8(4, 1)
	}
	return r.At()
}

//go:wasmexport tidemill:operator/reducer@0.1.0#reduce
func exportReduce(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64,
	rows, nodes, nNodes, buffers, nBuffers, ends, nEnds uint32) uint32 {
	call := abi.Call(batchID, batchTimeUs, partition, attempt, firstRow, hasWatermark, watermarkUs)
	values := abi.BatchOf{Rows: rows, Nodes: nodes, NNodes: nNodes, Buffers: buffers, NBuffers: nBuffers}
	return abi.BatchResult(reduce(call, values.Read(), abi.ListOf{At: ends, N: nEnds}.U32s()))
}

//go:wasmexport tidemill:operator/reducer@0.1.0#invert
func exportInvert(arguments uint32) uint32 {
	a := abi.At[struct {
		of          abi.Of
		whole, part abi.BatchOf
	}](arguments)
	return abi.BatchResult(invert(a.of.Read(), a.whole.Read(), a.part.Read()))
}

//go:wasmexport cabi_post_tidemill:operator/reducer@0.1.0#open
func postOpen(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/reducer@0.1.0#reduce
func postReduce(uint32) { abi.End() }

//go:wasmexport cabi_post_tidemill:operator/reducer@0.1.0#invert
func postInvert(uint32) { abi.End() }
