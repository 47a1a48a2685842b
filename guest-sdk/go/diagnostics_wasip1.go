package tidemill

import "unsafe"

//go:wasmimport tidemill:operator/diagnostics@0.1.0 log
func hostLog(level int32, text unsafe.Pointer, n uint32)

//go:wasmimport tidemill:operator/diagnostics@0.1.0 count
func hostCount(name unsafe.Pointer, n uint32, add uint64)

//go:wasmimport tidemill:operator/diagnostics@0.1.0 gauge
func hostGauge(name unsafe.Pointer, n uint32, value float64)

// Log writes a line to the job's log, with job, step, partition and batch. It counts against the limit on log bytes.
func Log(level Level, text string) {
	hostLog(int32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Count adds to a counter of the step.
func Count(name string, add uint64) {
	hostCount(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), add)
}

// Gauge sets a gauge of the step.
func Gauge(name string, value float64) {
	hostGauge(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), value)
}
