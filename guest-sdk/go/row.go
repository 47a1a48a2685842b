package tidemill

import (
	"fmt"
	"iter"
	"reflect"
	"strings"
	"unsafe"
)

// codec reads and builds one type of Go: made once, when the operator is opened.
type codec struct {
	field Field
	read  func(c *Column, row int, into unsafe.Pointer)
	write func(b *Builder, from unsafe.Pointer)
	// hasNull says whether there is a null that the type has no place for.
	hasNull func(c *Column, row int) bool
}

type nullable interface{ isNull() }
type mapping interface{ isMap() }

var (
	nullableType  = reflect.TypeFor[nullable]()
	mappingType   = reflect.TypeFor[mapping]()
	dateType      = reflect.TypeFor[Date]()
	timestampType = reflect.TypeFor[Timestamp]()
	durationType  = reflect.TypeFor[Duration]()
	decimalType   = reflect.TypeFor[Decimal]()
)

func fixedCodec[T Fixed](typeText string) codec {
	return codec{
		field: MustField("", typeText),
		read: func(c *Column, row int, into unsafe.Pointer) {
			*(*T)(into) = *(*T)(unsafe.Add(c.values, row*int(unsafe.Sizeof(*new(T)))))
		},
		write:   func(b *Builder, from unsafe.Pointer) { appendFixed(b, *(*T)(from)) },
		hasNull: (*Column).IsNull,
	}
}

// makeCodec makes the codec of a type; `typeText` is what the tag says, or "".
func makeCodec(t reflect.Type, typeText string) (codec, error) {
	made, err := codecOf(t, typeText)
	if err != nil || typeText == "" {
		return made, err
	}
	said, err := ParseField("", strings.TrimSuffix(strings.TrimSpace(typeText), "?"))
	if err != nil {
		return made, err
	}
	if said.Type != made.field.Type && made.field.Type != TypeDecimal {
		return made, fmt.Errorf("a %s is not %s", t, typeText)
	}
	said.Nullable = made.field.Nullable
	made.field = said
	return made, nil
}

func codecOf(t reflect.Type, typeText string) (codec, error) {
	switch {
	case t.Implements(nullableType):
		return nullCodec(t, typeText)
	case t.Implements(mappingType):
		return listCodec(t, true)
	case t == dateType:
		return fixedCodec[int32]("date32"), nil
	case t == timestampType:
		return fixedCodec[int64]("timestamp"), nil
	case t == durationType:
		return fixedCodec[int64]("duration"), nil
	case t == decimalType:
		if !strings.HasPrefix(typeText, "decimal") {
			return codec{}, fmt.Errorf("a Decimal says its digits in its tag, as in `tidemill:\"price,decimal(10, 2)\"`")
		}
		return fixedCodec[Decimal](strings.TrimSuffix(typeText, "?")), nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return codec{
			field:   MustField("", "boolean"),
			read:    func(c *Column, row int, into unsafe.Pointer) { *(*bool)(into) = c.Bool(row) },
			write:   func(b *Builder, from unsafe.Pointer) { b.PutBool(*(*bool)(from)) },
			hasNull: (*Column).IsNull,
		}, nil
	case reflect.Int8:
		return fixedCodec[int8]("int8"), nil
	case reflect.Int16:
		return fixedCodec[int16]("int16"), nil
	case reflect.Int32:
		return fixedCodec[int32]("int32"), nil
	case reflect.Int64:
		return fixedCodec[int64]("int64"), nil
	case reflect.Uint8:
		return fixedCodec[uint8]("uint8"), nil
	case reflect.Uint16:
		return fixedCodec[uint16]("uint16"), nil
	case reflect.Uint32:
		return fixedCodec[uint32]("uint32"), nil
	case reflect.Uint64:
		return fixedCodec[uint64]("uint64"), nil
	case reflect.Float32:
		return fixedCodec[float32]("float32"), nil
	case reflect.Float64:
		return fixedCodec[float64]("float64"), nil
	case reflect.String:
		return codec{
			field: MustField("", "utf8"),
			read: func(c *Column, row int, into unsafe.Pointer) {
				start, end := c.offsets[row], c.offsets[row+1]
				*(*string)(into) = unsafe.String((*byte)(unsafe.Add(c.values, start)), end-start)
			},
			write: func(b *Builder, from unsafe.Pointer) {
				b.values = append(b.values, *(*string)(from)...)
				b.appendOffset(len(b.values))
				b.put()
			},
			hasNull: (*Column).IsNull,
		}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return codec{
				field:   MustField("", "binary"),
				read:    func(c *Column, row int, into unsafe.Pointer) { *(*[]byte)(into) = c.Bytes(row) },
				write:   func(b *Builder, from unsafe.Pointer) { b.PutBytes(*(*[]byte)(from)) },
				hasNull: (*Column).IsNull,
			}, nil
		}
		return listCodec(t, false)
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			n := t.Len()
			return codec{
				field:   MustField("", fmt.Sprintf("fixed(%d)", n)),
				read:    func(c *Column, row int, into unsafe.Pointer) { copy(unsafe.Slice((*byte)(into), n), c.Bytes(row)) },
				write:   func(b *Builder, from unsafe.Pointer) { b.PutBytes(unsafe.Slice((*byte)(from), n)) },
				hasNull: (*Column).IsNull,
			}, nil
		}
	case reflect.Struct:
		return structCodec(t)
	}
	return codec{}, fmt.Errorf("%s is no type of a column", t)
}

func nullCodec(t reflect.Type, typeText string) (codec, error) {
	valid := t.Field(1).Offset
	value, err := makeCodec(t.Field(0).Type, strings.TrimSuffix(typeText, "?"))
	if err != nil {
		return value, err
	}
	made := codec{field: value.field}
	made.field.Nullable = true
	made.read = func(c *Column, row int, into unsafe.Pointer) {
		isValid := !c.IsNull(row)
		*(*bool)(unsafe.Add(into, valid)) = isValid
		if isValid {
			value.read(c, row, into)
		} else {
			reflect.NewAt(t.Field(0).Type, into).Elem().SetZero()
		}
	}
	made.write = func(b *Builder, from unsafe.Pointer) {
		if *(*bool)(unsafe.Add(from, valid)) {
			value.write(b, from)
		} else {
			b.PutNull()
		}
	}
	made.hasNull = func(c *Column, row int) bool { return !c.IsNull(row) && value.hasNull(c, row) }
	return made, nil
}

// slice is the head of a slice of any type.
type slice struct {
	data     unsafe.Pointer
	len, cap int
}

func listCodec(t reflect.Type, isMap bool) (codec, error) {
	item, err := makeCodec(t.Elem(), "")
	if err != nil {
		return item, err
	}
	size := t.Elem().Size()
	item.field.Name = "item"
	made := codec{field: Field{Type: TypeList}}
	if isMap {
		item.field.Name, made.field.Type = "entries", TypeMap
	}
	made.field.Children = []Field{item.field}
	// Numbers stand in the batch as they do in a slice.
	isView := item.field.width() > 0 && !item.field.Nullable && t.Elem().Kind() != reflect.Array
	made.read = func(c *Column, row int, into unsafe.Pointer) {
		start, end := int(c.offsets[row]), int(c.offsets[row+1])
		items := &c.children[0]
		if isView {
			view := (*slice)(into)
			view.data, view.len, view.cap = unsafe.Add(items.values, start*int(size)), end-start, end-start
			return
		}
		list := reflect.MakeSlice(t, end-start, end-start)
		for i := start; i < end; i++ {
			item.read(items, i, unsafe.Add(list.UnsafePointer(), (i-start)*int(size)))
		}
		reflect.NewAt(t, into).Elem().Set(list)
	}
	made.write = func(b *Builder, from unsafe.Pointer) {
		list := (*slice)(from)
		for i := 0; i < list.len; i++ {
			item.write(&b.children[0], unsafe.Add(list.data, i*int(size)))
		}
		b.appendOffset(b.children[0].n)
		b.put()
	}
	made.hasNull = func(c *Column, row int) bool {
		if c.IsNull(row) {
			return true
		}
		for i := int(c.offsets[row]); i < int(c.offsets[row+1]); i++ {
			if item.hasNull(&c.children[0], i) {
				return true
			}
		}
		return false
	}
	return made, nil
}

// part is a field of a struct.
type part struct {
	codec
	offset uintptr
}

func partsOf(t reflect.Type) ([]part, error) {
	var parts []part
	for i := range t.NumField() {
		member := t.Field(i)
		name, typeText, _ := strings.Cut(member.Tag.Get("tidemill"), ",")
		if name == "-" || !member.IsExported() {
			continue
		}
		if name == "" {
			name = member.Name
		}
		made, err := makeCodec(member.Type, typeText)
		if err != nil {
			return nil, fmt.Errorf("field %s of %s: %w", member.Name, t, err)
		}
		made.field.Name = name
		parts = append(parts, part{made, member.Offset})
	}
	return parts, nil
}

func structCodec(t reflect.Type) (codec, error) {
	parts, err := partsOf(t)
	if err != nil {
		return codec{}, err
	}
	made := codec{field: Field{Type: TypeStruct}}
	for i := range parts {
		made.field.Children = append(made.field.Children, parts[i].field)
	}
	made.read = func(c *Column, row int, into unsafe.Pointer) {
		for i := range parts {
			parts[i].read(&c.children[i], row, unsafe.Add(into, parts[i].offset))
		}
	}
	made.write = func(b *Builder, from unsafe.Pointer) {
		for i := range parts {
			parts[i].write(&b.children[i], unsafe.Add(from, parts[i].offset))
		}
		b.put()
	}
	made.hasNull = func(c *Column, row int) bool {
		for i := range parts {
			if parts[i].hasNull(&c.children[i], row) {
				return true
			}
		}
		return c.IsNull(row)
	}
	return made, nil
}

// Layout is a struct as the columns of a row, made once.
type Layout[T any] struct {
	// Schema is its columns.
	Schema Schema
	parts  []part
}

// LayoutOf makes the layout of a struct. The error says which field is of no type of a column.
func LayoutOf[T any]() (*Layout[T], error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct: rows are", t)
	}
	parts, err := partsOf(t)
	if err != nil {
		return nil, err
	}
	layout := &Layout[T]{parts: parts}
	for i := range parts {
		layout.Schema = append(layout.Schema, parts[i].field)
	}
	return layout, nil
}

// Names are those of its columns.
func (l *Layout[T]) Names() []string {
	names := make([]string, len(l.Schema))
	for i := range l.Schema {
		names[i] = l.Schema[i].Name
	}
	return names
}

// Check says what is wrong when `input` lacks one of its columns. `keys` are the step's, if it has some; `where` begins the text.
func (l *Layout[T]) Check(input, keys Schema, where string) error {
	for i := range l.Schema {
		want := &l.Schema[i]
		switch at := input.Find(want.Name); {
		case at < 0 && keys.Find(want.Name) >= 0:
			return WrongSchema("column `%s` is a key of the step, and is expected not to be one", want.Name)
		case at < 0:
			return WrongSchema("%scolumn `%s` is missing, %s is expected", where, want.Name, want.TypeText())
		case !want.fits(&input[at]):
			return WrongSchema("%scolumn `%s` is %s, %s is expected", where, want.Name, input[at].TypeText(), want.TypeText())
		}
	}
	return nil
}

// Arrange puts the columns in the order of a schema, which has to have the same ones: for reducers.
func (l *Layout[T]) Arrange(schema Schema) error {
	if err := l.Check(schema, nil, ""); err != nil {
		return err
	}
	var parts []part
	for i := range schema {
		at := l.Schema.Find(schema[i].Name)
		if at < 0 {
			return WrongSchema("column `%s` is not one that the reducer combines: leave it out before", schema[i].Name)
		}
		parts = append(parts, l.parts[at])
	}
	l.parts, l.Schema = parts, schema
	return nil
}

// Rows is the rows of a batch as values of T, each made when it is asked for.
type Rows[T any] struct {
	layout    *Layout[T]
	columns   []*Column
	batch     *Batch
	mayBeNull bool
}

func hasNulls(c *Column) bool {
	for i := range c.children {
		if hasNulls(&c.children[i]) {
			return true
		}
	}
	return c.NullCount > 0 || c.Field.Type == TypeNull
}

// All gives every row with its number, for methods of whole batches. Those with a null that T has no place for are left out: see
// [Rows.NullColumn].
func (r *Rows[T]) All() iter.Seq2[int, T] {
	return func(yield func(int, T) bool) {
		var row T
		for i := range r.Len() {
			if r.NullColumn(i) != "" {
				continue
			}
			if r.Read(i, &row); !yield(i, row) {
				return
			}
		}
	}
}

// RowsOf gives the rows of a batch that has the columns of T, by their names.
func RowsOf[T any](layout *Layout[T], batch *Batch) (Rows[T], error) {
	rows := Rows[T]{layout: layout, batch: batch}
	for i := range layout.Schema {
		column := batch.Column(layout.Schema[i].Name)
		if column == nil {
			return rows, Failed("column `%s` has not come", layout.Schema[i].Name)
		}
		rows.columns = append(rows.columns, column)
		rows.mayBeNull = rows.mayBeNull || hasNulls(column)
	}
	return rows, nil
}

// Len is how many rows there are.
func (r *Rows[T]) Len() int { return r.batch.Rows }

// Columns gives the columns, in the order of T's fields: for loops over whole columns.
func (r *Rows[T]) Columns() []*Column { return r.columns }

// Read makes the row of that number into a T. [Rows.NullColumn] has to be asked first where there may be nulls.
func (r *Rows[T]) Read(row int, into *T) {
	for i := range r.layout.parts {
		part := &r.layout.parts[i]
		part.read(r.columns[i], row, unsafe.Add(unsafe.Pointer(into), part.offset))
	}
}

// NullColumn names the first column that is null at a row, or within it, and has no place for that; "" when there is none.
func (r *Rows[T]) NullColumn(row int) string {
	if !r.mayBeNull {
		return ""
	}
	for i := range r.layout.parts {
		if r.layout.parts[i].hasNull(r.columns[i], row) {
			return r.layout.Schema[i].Name
		}
	}
	return ""
}

// Append appends a value to a table of the layout's schema.
func (l *Layout[T]) Append(table *Table, value *T) {
	for i := range l.parts {
		part := &l.parts[i]
		part.write(&table.columns[i], unsafe.Add(unsafe.Pointer(value), part.offset))
	}
	table.rows++
}
