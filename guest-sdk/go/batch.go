package tidemill

import "unsafe"

// Node is one field's part of a batch, in pre-order.
type Node struct {
	Length    uint32
	NullCount uint32
}

// RawBatch is rows as they cross: nodes and buffers in pre-order, as the contract's `batch` says.
type RawBatch struct {
	Rows    uint32
	Nodes   []Node
	Buffers [][]byte
}

// Batch is rows as columns. Nothing of it is copied, and nothing of it may be used when the call has returned.
type Batch struct {
	// Rows is how many there are.
	Rows int
	// Columns are those that the operator reads, in their order.
	Columns []Column
}

// Column gives the column with that name, or nil.
func (b *Batch) Column(name string) *Column {
	for i := range b.Columns {
		if b.Columns[i].Field.Name == name {
			return &b.Columns[i]
		}
	}
	return nil
}

// Column is a column of a batch: views of the bytes that came.
type Column struct {
	// Field says what it is.
	Field *Field
	// Len is how many values it has, and NullCount how many of them are null.
	Len, NullCount int

	validity []byte
	values   unsafe.Pointer
	nBytes   int
	offsets  []int32
	children []Column
}

var noOffsets = []int32{0}
var noBytes [16]byte

// Lift makes columns of what came, of a schema that stays the same. The columns of the last call are used again.
func (b *Batch) Lift(raw RawBatch, schema Schema) {
	b.Rows = int(raw.Rows)
	if len(b.Columns) != len(schema) {
		b.Columns = make([]Column, len(schema))
	}
	for i := range schema {
		b.Columns[i].lift(&raw, &schema[i])
	}
}

func (c *Column) lift(raw *RawBatch, field *Field) {
	c.Field, c.Len, c.NullCount = field, 0, 0
	c.validity, c.values, c.nBytes, c.offsets = nil, unsafe.Pointer(&noBytes), 0, noOffsets
	if len(c.children) != len(field.Children) {
		c.children = make([]Column, len(field.Children))
	}
	// A batch without rows may come as its count alone.
	if len(raw.Nodes) > 0 {
		c.Len, c.NullCount = int(raw.Nodes[0].Length), int(raw.Nodes[0].NullCount)
		raw.Nodes = raw.Nodes[1:]
		next := func() []byte {
			buffer := raw.Buffers[0]
			raw.Buffers = raw.Buffers[1:]
			return buffer
		}
		if field.Type != TypeNull {
			if validity := next(); len(validity) > 0 {
				c.validity = validity
			}
			if field.hasOffsets() {
				if bytes := next(); len(bytes) > 0 {
					c.offsets = unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(bytes))), len(bytes)/4)
				}
			}
			if !field.isNested() {
				if bytes := next(); len(bytes) > 0 {
					c.values, c.nBytes = unsafe.Pointer(unsafe.SliceData(bytes)), len(bytes)
				}
			}
		}
	}
	for i := range field.Children {
		c.children[i].lift(raw, &field.Children[i])
	}
}

// IsNull says whether the value of a row is null.
func (c *Column) IsNull(row int) bool {
	if c.validity == nil {
		return c.Field.Type == TypeNull
	}
	return c.validity[row>>3]>>(row&7)&1 == 0
}

// Validity is one bit a value, the lowest first; nil: no value is null.
func (c *Column) Validity() []byte { return c.validity }

// Offsets is where each text, list or map begins, and one more: where the last ends.
func (c *Column) Offsets() []int32 { return c.offsets }

// Data is the bytes of the values: of all texts, one behind the other; of values of fixed width; of bits.
func (c *Column) Data() []byte { return unsafe.Slice((*byte)(c.values), c.nBytes) }

// Children is what the column is made of: a list's items, a struct's fields, a map's entries.
func (c *Column) Children() []Column { return c.children }

// Bool gives a value of a boolean column.
func (c *Column) Bool(row int) bool {
	c.must(c.Field.Type == TypeBoolean, "Bool")
	return *(*byte)(unsafe.Add(c.values, row>>3))>>(row&7)&1 == 1
}

// Bytes gives a value of a column of text or bytes, in place.
func (c *Column) Bytes(row int) []byte {
	if c.Field.Type == TypeFixed {
		width := int(c.Field.Width)
		return unsafe.Slice((*byte)(unsafe.Add(c.values, row*width)), width)
	}
	c.must(c.Field.Type == TypeUtf8 || c.Field.Type == TypeBinary, "Bytes")
	start := c.offsets[row]
	return unsafe.Slice((*byte)(unsafe.Add(c.values, start)), c.offsets[row+1]-start)
}

// String gives a value of a column of text, in place: strings.Clone keeps it when the call is over.
func (c *Column) String(row int) string {
	bytes := c.Bytes(row)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

// Range gives where the items of a list, or the entries of a map, begin and end among those of Children()[0].
func (c *Column) Range(row int) (start, end int) {
	c.must(c.Field.Type == TypeList || c.Field.Type == TypeMap, "Range")
	return int(c.offsets[row]), int(c.offsets[row+1])
}

// Fixed is a value of fixed width.
type Fixed interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64 | Decimal
}

// Values gives a column of fixed width as a slice, without a copy: what stands where a value is null has no meaning. T has the
// width of the column's type: int64 for timestamps and durations, int32 for dates.
func Values[T Fixed](c *Column) []T {
	var none T
	c.must(c.Field.width() == int(unsafe.Sizeof(none)) && c.Field.Type != TypeFixed, "Values")
	return unsafe.Slice((*T)(c.values), c.Len)
}

func (c *Column) must(fits bool, function string) {
	if !fits {
		panic(function + " on column `" + c.Field.Name + "`, which is " + c.Field.TypeText())
	}
}

// Builder appends values to a column.
type Builder struct {
	field    *Field
	n, nulls int
	// Validity is kept from the first null on.
	validity []byte
	values   []byte
	offsets  []byte
	children []Builder
	misuse   *string
}

func makeBuilder(field *Field, misuse *string) Builder {
	b := Builder{field: field, misuse: misuse}
	for i := range field.Children {
		b.children = append(b.children, makeBuilder(&field.Children[i], misuse))
	}
	return b
}

// reset empties it. Its memory is used again.
func (b *Builder) reset() {
	b.n, b.nulls = 0, 0
	b.validity, b.values, b.offsets = b.validity[:0], b.values[:0], b.offsets[:0]
	if b.field.hasOffsets() {
		b.offsets = append(b.offsets, 0, 0, 0, 0)
	}
	for i := range b.children {
		b.children[i].reset()
	}
}

// Field says what is built.
func (b *Builder) Field() *Field { return b.field }

// Len is how many values it has.
func (b *Builder) Len() int { return b.n }

// Child gives the builder of a part: a list's items, a struct's fields, a map's entries.
func (b *Builder) Child(i int) *Builder { return &b.children[i] }

func (b *Builder) must(fits bool, function string) {
	if !fits {
		panic(function + " on column `" + b.field.Name + "`, which is " + b.field.TypeText())
	}
}

func (b *Builder) put() {
	if b.nulls > 0 {
		b.putValidity(1)
	}
	b.n++
}

func (b *Builder) putValidity(bit byte) {
	if b.n%8 == 0 {
		b.validity = append(b.validity, bit)
	} else {
		b.validity[len(b.validity)-1] |= bit << (b.n % 8)
	}
}

// Put appends a value of fixed width, of the width of the column's type.
func Put[T Fixed](b *Builder, value T) {
	b.must(b.field.width() == int(unsafe.Sizeof(value)) && b.field.Type != TypeFixed, "Put")
	appendFixed(b, value)
}

func appendFixed[T any](b *Builder, value T) {
	n := len(b.values)
	size := int(unsafe.Sizeof(value))
	if cap(b.values)-n < size {
		b.values = grow(b.values, size)
	}
	b.values = b.values[:n+size]
	*(*T)(unsafe.Pointer(&b.values[n])) = value
	b.put()
}

func grow(buffer []byte, n int) []byte {
	grown := make([]byte, len(buffer), max(2*cap(buffer), len(buffer)+n, 1024))
	copy(grown, buffer)
	return grown
}

// PutBool appends a boolean.
func (b *Builder) PutBool(value bool) {
	b.must(b.field.Type == TypeBoolean, "PutBool")
	var bit byte
	if value {
		bit = 1
	}
	if b.n%8 == 0 {
		b.values = append(b.values, bit)
	} else {
		b.values[len(b.values)-1] |= bit << (b.n % 8)
	}
	b.put()
}

func (b *Builder) appendOffset(offset int) {
	b.offsets = append(b.offsets, byte(offset), byte(offset>>8), byte(offset>>16), byte(offset>>24))
}

// PutString appends text, which is copied.
func (b *Builder) PutString(value string) {
	b.must(b.field.Type == TypeUtf8, "PutString")
	b.values = append(b.values, value...)
	b.appendOffset(len(b.values))
	b.put()
}

// PutBytes appends bytes, which are copied.
func (b *Builder) PutBytes(value []byte) {
	b.must(b.field.Type == TypeUtf8 || b.field.Type == TypeBinary || b.field.Type == TypeFixed && len(value) == int(b.field.Width), "PutBytes")
	b.values = append(b.values, value...)
	if b.field.Type != TypeFixed {
		b.appendOffset(len(b.values))
	}
	b.put()
}

// PutList appends a list, or a map, of the items that have been appended to Child(0) since the last one.
func (b *Builder) PutList() {
	b.must(b.field.Type == TypeList || b.field.Type == TypeMap, "PutList")
	b.appendOffset(b.children[0].n)
	b.put()
}

// PutStruct appends a struct of the values that have been appended to each child; an entry of a map, to Child(0) of that.
func (b *Builder) PutStruct() {
	b.must(b.field.Type == TypeStruct, "PutStruct")
	b.put()
}

// PutNull appends a null. The column has to be declared nullable.
func (b *Builder) PutNull() {
	if !b.field.Nullable && *b.misuse == "" {
		*b.misuse = "column `" + b.field.Name + "` is declared without nulls, and was given one"
	}
	b.blank()
	if b.field.Type != TypeNull {
		if b.nulls == 0 {
			for len(b.validity) < b.n/8 {
				b.validity = append(b.validity, 0xFF)
			}
			if left := b.n % 8; left > 0 {
				b.validity = append(b.validity, 1<<left-1)
			}
		}
		b.putValidity(0)
	}
	b.nulls++
	b.n++
}

// blank appends what stands in the place of a null: all but its validity and its count.
func (b *Builder) blank() {
	switch {
	case b.field.Type == TypeBoolean:
		if b.n%8 == 0 {
			b.values = append(b.values, 0)
		}
	case b.field.hasOffsets():
		b.offsets = append(b.offsets, b.offsets[len(b.offsets)-4:]...)
	case b.field.Type == TypeStruct:
		for i := range b.children {
			if child := &b.children[i]; child.field.Nullable {
				child.PutNull()
			} else {
				child.blank()
				child.put()
			}
		}
	default:
		b.values = append(b.values, make([]byte, b.field.width())...)
	}
}

// PutValue appends the value of a column of the same type, null or not.
func (b *Builder) PutValue(c *Column, row int) {
	b.must(b.field.Type == c.Field.Type && len(b.children) == len(c.children), "PutValue")
	switch {
	case c.IsNull(row):
		b.PutNull()
	case c.Field.Type == TypeBoolean:
		b.PutBool(c.Bool(row))
	case c.Field.Type == TypeUtf8 || c.Field.Type == TypeBinary || c.Field.Type == TypeFixed:
		b.PutBytes(c.Bytes(row))
	case c.Field.Type == TypeList || c.Field.Type == TypeMap:
		start, end := c.Range(row)
		for i := start; i < end; i++ {
			b.children[0].PutValue(&c.children[0], i)
		}
		b.PutList()
	case c.Field.Type == TypeStruct:
		for i := range b.children {
			b.children[i].PutValue(&c.children[i], row)
		}
		b.PutStruct()
	default:
		width := c.Field.width()
		b.values = append(b.values, unsafe.Slice((*byte)(unsafe.Add(c.values, row*width)), width)...)
		b.put()
	}
}

// check says what is wrong, if a part of it has another number of values than it should.
func (b *Builder) check(n int) string {
	if b.n != n {
		return "column `" + b.field.Name + "` was given " + plural(b.n, "value") + " for " + plural(n, "row")
	}
	if b.field.Type == TypeList || b.field.Type == TypeMap {
		last := b.offsets[len(b.offsets)-4:]
		n = int(last[0]) | int(last[1])<<8 | int(last[2])<<16 | int(last[3])<<24
	}
	for i := range b.children {
		if wrong := b.children[i].check(n); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (b *Builder) lower(raw *RawBatch) {
	raw.Nodes = append(raw.Nodes, Node{uint32(b.n), uint32(b.nulls)})
	if b.field.Type != TypeNull {
		raw.Buffers = append(raw.Buffers, b.validity)
		if b.field.hasOffsets() {
			raw.Buffers = append(raw.Buffers, b.offsets)
		}
		if !b.field.isNested() {
			raw.Buffers = append(raw.Buffers, b.values)
		}
	}
	for i := range b.children {
		b.children[i].lower(raw)
	}
}

// Table is rows that are being built.
type Table struct {
	columns []Builder
	rows    int
	misuse  string
	raw     RawBatch
}

// NewTable makes an empty table.
func NewTable(schema Schema) *Table {
	t := &Table{}
	for i := range schema {
		t.columns = append(t.columns, makeBuilder(&schema[i], &t.misuse))
	}
	t.Reset()
	return t
}

// Reset empties the table. Its memory is used again.
func (t *Table) Reset() {
	t.rows, t.misuse = 0, ""
	for i := range t.columns {
		t.columns[i].reset()
	}
}

// Column gives the builder of a column, by its place.
func (t *Table) Column(i int) *Builder { return &t.columns[i] }

// Rows is how many rows are complete.
func (t *Table) Rows() int { return t.rows }

// EndRow says that a row is complete: every column has been given a value.
func (t *Table) EndRow() { t.rows++ }

// Finish gives the rows as they cross. They are good until the table is reset.
func (t *Table) Finish() (RawBatch, error) {
	for i := range t.columns {
		if wrong := t.columns[i].check(t.rows); wrong != "" && t.misuse == "" {
			t.misuse = wrong
		}
	}
	if t.misuse != "" {
		return RawBatch{}, Failed("%s", t.misuse)
	}
	t.raw.Rows, t.raw.Nodes, t.raw.Buffers = uint32(t.rows), t.raw.Nodes[:0], t.raw.Buffers[:0]
	if t.rows > 0 {
		for i := range t.columns {
			t.columns[i].lower(&t.raw)
		}
	}
	return t.raw, nil
}

// FinishRows is Finish where it is known how many rows there have to be: in reducers and aggregators.
func (t *Table) FinishRows(rows int) (RawBatch, error) {
	t.rows = rows
	return t.Finish()
}
