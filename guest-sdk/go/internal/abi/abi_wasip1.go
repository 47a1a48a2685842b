// Package abi is the canonical ABI of components by hand: what the host puts into the plugin's memory, and what it reads there.
package abi

import (
	"errors"
	"runtime/debug"
	"strings"
	"unsafe"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

// memory is where the host puts what a call gets, and where results are made: chunks that are used again and again. The garbage
// collector must not take what only numbers point at: chunks are held here.
var memory struct {
	chunks  [][]byte
	chunk   int
	at      int
	forGood [][]byte
}

const chunkBytes = 256 << 10

// early is the memory that is given out before the runtime works: the adapter between WASI's two versions asks for its own, 64 KiB
// twice, while that starts, and keeps it.
var early struct {
	memory [192 << 10]byte
	at     uintptr
	over   bool
}

func init() {
	early.over = true
	// A plugin has 64 MiB unless its job says more: collect before that is reached. What is in use is seldom more than a batch.
	debug.SetMemoryLimit(40 << 20)
}

func alloc(n uint32) unsafe.Pointer {
	size := (int(n) + 15) &^ 15
	for memory.chunk < len(memory.chunks) {
		chunk := memory.chunks[memory.chunk]
		start := unsafe.Pointer(unsafe.SliceData(chunk))
		// Buffers are read as what they hold: they stand at multiples of 16.
		at := (memory.at+int(uintptr(start))+15)&^15 - int(uintptr(start))
		if at+size <= len(chunk) {
			memory.at = at + size
			return unsafe.Add(start, at)
		}
		memory.chunk, memory.at = memory.chunk+1, 0
	}
	memory.chunks = append(memory.chunks, make([]byte, max(chunkBytes, size+16)))
	return alloc(n)
}

//go:wasmexport cabi_realloc
func cabiRealloc(old, oldSize, align, size uint32) uint32 {
	if size == 0 {
		return align
	}
	if !early.over {
		start := uintptr(unsafe.Pointer(&early.memory))
		at := (start+early.at+uintptr(align)-1)&^(uintptr(align)-1) - start
		if at+uintptr(size) > uintptr(len(early.memory)) {
			return 0
		}
		early.at = at + uintptr(size)
		return uint32(start + at)
	}
	at := alloc(size)
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(at), size), unsafe.Slice((*byte)(unsafe.Pointer(uintptr(old))), oldSize))
	}
	return uint32(uintptr(at))
}

// End frees what a call has used.
func End() {
	memory.chunk, memory.at = 0, 0
	if len(memory.chunks) > 16 {
		// Many small ones: one that all fits into is better.
		sum := 0
		for _, chunk := range memory.chunks {
			sum += len(chunk)
		}
		memory.chunks = [][]byte{make([]byte, sum)}
	}
}

func pointer(at uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(at)) }

func list[T any](at, n uint32) []T {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(pointer(at)), n)
}

type listOf struct{ at, n uint32 }

func (l listOf) text() string { return strings.Clone(unsafe.String((*byte)(pointer(l.at)), l.n)) }

// Text reads a string.
func Text(at, n uint32) string {
	if n == 0 {
		return ""
	}
	return listOf{at, n}.text()
}

// field is one field of a schema, as it is laid out.
type field struct {
	name     listOf
	dataType uint8
	payload  [4]uint32
	nullable bool
	children uint32
}

// Schema reads a schema.
func Schema(at, n uint32) tidemill.Schema {
	fields := list[field](at, n)
	var schema tidemill.Schema
	for len(fields) > 0 {
		var made tidemill.Field
		made, fields = lift(fields)
		schema = append(schema, made)
	}
	return schema
}

func lift(fields []field) (tidemill.Field, []field) {
	from := &fields[0]
	made := tidemill.Field{Name: Text(from.name.at, from.name.n), Type: tidemill.Type(from.dataType), Nullable: from.nullable}
	switch first := from.payload[0]; made.Type {
	case tidemill.TypeFixed:
		made.Width = first
	case tidemill.TypeTimestamp:
		made.Unit = tidemill.Unit(first)
		if uint8(from.payload[1]) == 1 {
			made.Zone = Text(from.payload[2], from.payload[3])
		}
	case tidemill.TypeDuration:
		made.Unit = tidemill.Unit(first)
	case tidemill.TypeDecimal:
		made.Precision, made.Scale = uint8(first), int8(first>>8)
	}
	rest := fields[1:]
	for range from.children {
		var child tidemill.Field
		child, rest = lift(rest)
		made.Children = append(made.Children, child)
	}
	return made, rest
}

// Schemas reads a list of schemas.
func Schemas(at, n uint32) []tidemill.Schema {
	var schemas []tidemill.Schema
	for _, of := range list[listOf](at, n) {
		schemas = append(schemas, Schema(of.at, of.n))
	}
	return schemas
}

// Step reads what `open` gets of a step.
func Step(job, jobN, step, stepN, partitions, config, configN uint32) *tidemill.Step {
	return &tidemill.Step{Job: Text(job, jobN), Step: Text(step, stepN), Partitions: partitions, Config: Text(config, configN)}
}

// Call reads what a call belongs to.
func Call(batchID uint64, batchTimeUs int64, partition, attempt uint32, firstRow uint64, hasWatermark uint32, watermarkUs int64) *tidemill.Call {
	call := &tidemill.Call{BatchID: batchID, BatchTime: tidemill.Timestamp(batchTimeUs), Partition: partition, Attempt: attempt, FirstRow: firstRow}
	if hasWatermark == 1 {
		call.Watermark = tidemill.Some(tidemill.Timestamp(watermarkUs))
	}
	return call
}

// Of is a call as it is laid out in memory, where arguments are too many.
type Of struct {
	BatchID      uint64
	BatchTimeUs  int64
	Partition    uint32
	Attempt      uint32
	FirstRow     uint64
	HasWatermark uint8
	WatermarkUs  int64
}

// Read reads it.
func (o *Of) Read() *tidemill.Call {
	return Call(o.BatchID, o.BatchTimeUs, o.Partition, o.Attempt, o.FirstRow, uint32(o.HasWatermark), o.WatermarkUs)
}

// BatchOf is a batch as it is laid out in memory.
type BatchOf struct{ Rows, Nodes, NNodes, Buffers, NBuffers uint32 }

// Read reads it.
func (b *BatchOf) Read() tidemill.RawBatch {
	raw := tidemill.RawBatch{Rows: b.Rows, Nodes: list[tidemill.Node](b.Nodes, b.NNodes)}
	if b.NBuffers > 0 {
		raw.Buffers = make([][]byte, b.NBuffers)
		for i, buffer := range list[listOf](b.Buffers, b.NBuffers) {
			raw.Buffers[i] = list[byte](buffer.at, buffer.n)
		}
	}
	return raw
}

// ListOf is a list as it is laid out in memory.
type ListOf struct{ At, N uint32 }

// U32s reads a list of numbers, in place.
func (l ListOf) U32s() []uint32 { return list[uint32](l.At, l.N) }

// Bytes reads a list of bytes, in place.
func (l ListOf) Bytes() []byte { return list[byte](l.At, l.N) }

// GroupedOf is the rows of an input of a grouper as it is laid out in memory.
type GroupedOf struct {
	Rows BatchOf
	Ends ListOf
}

// Groups reads a list of them, in place.
func Groups(at, n uint32) []GroupedOf { return list[GroupedOf](at, n) }

// At gives what is laid out at a place.
func At[T any](at uint32) *T { return (*T)(pointer(at)) }

// Record is a result as it is laid out in memory.
type Record struct{ at unsafe.Pointer }

// NewRecord makes one of zeros.
func NewRecord(size uint32) Record {
	at := alloc(size)
	clear(unsafe.Slice((*byte)(at), size))
	return Record{at}
}

// At is where it stands.
func (r Record) At() uint32 { return uint32(uintptr(r.at)) }

// Part is the record that begins within another.
func (r Record) Part(offset uint32) Record { return Record{unsafe.Add(r.at, offset)} }

// U8 and U32 set a number.
func (r Record) U8(offset uint32, value uint8) { *(*uint8)(unsafe.Add(r.at, offset)) = value }

// U32 sets a number.
func (r Record) U32(offset, value uint32) { *(*uint32)(unsafe.Add(r.at, offset)) = value }

func listAt[T any](r Record, offset uint32, items []T) {
	r.U32(offset, uint32(uintptr(unsafe.Pointer(unsafe.SliceData(items)))))
	r.U32(offset+4, uint32(len(items)))
}

// Items sets a list of numbers, which has to be kept until the host has read it.
func Items[T uint8 | uint32 | int64](r Record, offset uint32, items []T) { listAt(r, offset, items) }

// Text sets a string: a copy.
func (r Record) Text(offset uint32, text string) {
	if text == "" {
		return
	}
	kept := unsafe.Slice((*byte)(alloc(uint32(len(text)))), len(text))
	copy(kept, text)
	listAt(r, offset, kept)
}

// Some sets an option to something, which stands behind its first word.
func (r Record) Some(offset uint32) Record {
	r.U8(offset, 1)
	return r.Part(offset + 4)
}

// Texts sets a list of strings.
func (r Record) Texts(offset uint32, texts []string) {
	records := NewRecord(uint32(8 * len(texts)))
	for i, text := range texts {
		records.Text(uint32(8*i), text)
	}
	r.U32(offset, records.At())
	r.U32(offset+4, uint32(len(texts)))
}

// Schema sets a schema.
func (r Record) Schema(offset uint32, schema tidemill.Schema) {
	n := uint32(0)
	for i := range schema {
		n += size(&schema[i])
	}
	records := NewRecord(36 * n)
	at := records
	for i := range schema {
		at = at.field(&schema[i])
	}
	r.U32(offset, records.At())
	r.U32(offset+4, n)
}

func size(f *tidemill.Field) uint32 {
	n := uint32(1)
	for i := range f.Children {
		n += size(&f.Children[i])
	}
	return n
}

func (r Record) field(from *tidemill.Field) Record {
	r.Text(0, from.Name)
	r.U8(8, uint8(from.Type))
	switch from.Type {
	case tidemill.TypeFixed:
		r.U32(12, from.Width)
	case tidemill.TypeTimestamp:
		r.U8(12, uint8(from.Unit))
		if from.Zone != "" {
			r.Some(16).Text(0, from.Zone)
		}
	case tidemill.TypeDuration:
		r.U8(12, uint8(from.Unit))
	case tidemill.TypeDecimal:
		r.U8(12, from.Precision)
		r.U8(13, uint8(from.Scale))
	}
	if from.Nullable {
		r.U8(28, 1)
	}
	r.U32(32, uint32(len(from.Children)))
	next := r.Part(36)
	for i := range from.Children {
		next = next.field(&from.Children[i])
	}
	return next
}

// Batch sets a batch. Its buffers have to be kept until the host has read them.
func (r Record) Batch(offset uint32, raw tidemill.RawBatch) {
	r.U32(offset, raw.Rows)
	nodes := NewRecord(uint32(8 * len(raw.Nodes)))
	for i, node := range raw.Nodes {
		nodes.U32(uint32(8*i), node.Length)
		nodes.U32(uint32(8*i+4), node.NullCount)
	}
	buffers := NewRecord(uint32(8 * len(raw.Buffers)))
	for i, buffer := range raw.Buffers {
		listAt(buffers, uint32(8*i), buffer)
	}
	r.U32(offset+4, nodes.At())
	r.U32(offset+8, uint32(len(raw.Nodes)))
	r.U32(offset+12, buffers.At())
	r.U32(offset+16, uint32(len(raw.Buffers)))
}

// Rejections sets a list of rejected rows.
func (r Record) Rejections(offset uint32, rejected []tidemill.Rejection) {
	records := NewRecord(uint32(12 * len(rejected)))
	for i, rejection := range rejected {
		records.U32(uint32(12*i), rejection.Row)
		records.Text(uint32(12*i+4), rejection.Reason)
	}
	r.U32(offset, records.At())
	r.U32(offset+4, uint32(len(rejected)))
}

// Refusal is the result of an `open` that declines.
func Refusal(err error) uint32 {
	r := NewRecord(36)
	r.U8(0, 1)
	if tidemill.IsWrongSchema(err) {
		r.U8(4, 1)
	} else if tidemill.IsRefused(err) {
		r.U8(4, 2)
	}
	r.Text(8, err.Error())
	return r.At()
}

// Failure is the result of a call that fails.
func Failure(err error) uint32 {
	r := NewRecord(80)
	r.U8(0, 1)
	if !tidemill.IsForNow(err) {
		r.U8(4, 1)
	}
	r.Text(8, err.Error())
	return r.At()
}

// ErrNoOperator is what a plugin says that imports a role and exports nothing of it.
var ErrNoOperator = errors.New("the plugin's `init` exports no operator of this role")

// BatchResult is the result of a call that gives rows, or fails.
func BatchResult(raw tidemill.RawBatch, err error) uint32 {
	if err != nil {
		return Failure(err)
	}
	r := NewRecord(24)
	r.Batch(4, raw)
	return r.At()
}
