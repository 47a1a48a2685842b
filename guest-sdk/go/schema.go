package tidemill

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is a column's type without what it is made of. The numbers are the contract's.
type Type uint8

// The types of the contract.
const (
	TypeNull Type = iota
	TypeBoolean
	TypeInt8
	TypeInt16
	TypeInt32
	TypeInt64
	TypeUint8
	TypeUint16
	TypeUint32
	TypeUint64
	TypeFloat32
	TypeFloat64
	TypeUtf8
	TypeBinary
	TypeFixed
	TypeDate32
	TypeTimestamp
	TypeDuration
	TypeDecimal
	TypeList
	TypeStruct
	TypeMap
)

var typeNames = [...]string{
	"null", "boolean", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "utf8",
	"binary", "fixed", "date32", "timestamp", "duration", "decimal", "list", "struct", "map",
}

// Unit is the unit of a timestamp or a duration.
type Unit uint8

// The units of the contract.
const (
	Second Unit = iota
	Millisecond
	Microsecond
	Nanosecond
)

var unitNames = [...]string{"s", "ms", "us", "ns"}

// Field is a column, or a part of one.
type Field struct {
	// Name is the column's name. Names of one level are distinct.
	Name string
	// Type is its type.
	Type Type
	// Nullable says whether a value may be null.
	Nullable bool
	// Width is how many bytes each value of TypeFixed has.
	Width uint32
	// Unit is that of TypeTimestamp and TypeDuration.
	Unit Unit
	// Zone says in which zone a TypeTimestamp is shown; its instants are in UTC. "" is no zone.
	Zone string
	// Precision and Scale are those of TypeDecimal.
	Precision uint8
	Scale     int8
	// Children are what it is made of: a list's items, a struct's fields, a map's entries, which are a struct of key and value.
	Children []Field
}

// Schema is the columns of rows.
type Schema []Field

// Find gives the place of the column with that name, or -1.
func (s Schema) Find(name string) int {
	for i := range s {
		if s[i].Name == name {
			return i
		}
	}
	return -1
}

// ParseField makes a field of a type as job files write it, with `?` behind a type whose values may be null:
// `int64`, `utf8?`, `timestamp(ms, Europe/Berlin)`, `decimal(10, 2)`, `fixed(16)`, `list<struct<a: int64, b: utf8?>>`, `map<utf8, float64>`.
func ParseField(name, text string) (Field, error) {
	p := typeParser{rest: text}
	field, ok := p.field(name)
	if p.spaces(); !ok || p.rest != "" {
		return Field{}, fmt.Errorf("`%s` is not a type", text)
	}
	return field, nil
}

// MustField is ParseField for types that are written in the program: it panics when one is wrong.
func MustField(name, text string) Field {
	field, err := ParseField(name, text)
	if err != nil {
		panic(err)
	}
	return field
}

type typeParser struct{ rest string }

func (p *typeParser) spaces() { p.rest = strings.TrimLeft(p.rest, " ") }

func (p *typeParser) skip(what byte) bool {
	p.spaces()
	if p.rest == "" || p.rest[0] != what {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *typeParser) word(stops string) string {
	p.spaces()
	end := strings.IndexAny(p.rest, stops)
	if end < 0 {
		end = len(p.rest)
	}
	word := strings.TrimRight(p.rest[:end], " ")
	p.rest = p.rest[end:]
	return word
}

func (p *typeParser) number(bits int) (int64, bool) {
	number, err := strconv.ParseInt(p.word("(),<>:?"), 10, bits)
	return number, err == nil
}

func parseUnit(word string, unit *Unit) bool {
	for i, name := range unitNames {
		if name == word {
			*unit = Unit(i)
			return true
		}
	}
	return false
}

func (p *typeParser) field(name string) (Field, bool) {
	field := Field{Name: name, Type: 255, Unit: Microsecond}
	word := p.word("(),<>:?")
	for i, name := range typeNames {
		if name == word {
			field.Type = Type(i)
		}
	}
	ok := field.Type != 255
	switch field.Type {
	case TypeTimestamp:
		field.Zone = "UTC"
		if p.skip('(') {
			ok = parseUnit(p.word("(),<>:?"), &field.Unit)
			if p.skip(',') {
				if field.Zone = p.word(")"); field.Zone == "no zone" {
					field.Zone = ""
				}
			}
			ok = ok && p.skip(')')
		}
	case TypeDuration:
		if p.skip('(') {
			ok = parseUnit(p.word("(),<>:?"), &field.Unit) && p.skip(')')
		}
	case TypeFixed:
		var width int64
		ok = p.skip('(')
		if ok {
			width, ok = p.number(32)
			field.Width = uint32(width)
			ok = ok && p.skip(')')
		}
	case TypeDecimal:
		if ok = p.skip('('); ok {
			precision, fits := p.number(8)
			comma := p.skip(',')
			scale, fits2 := p.number(8)
			field.Precision, field.Scale = uint8(precision), int8(scale)
			ok = fits && comma && fits2 && p.skip(')')
		}
	case TypeList:
		var item Field
		if ok = p.skip('<'); ok {
			item, ok = p.field("item")
			field.Children = []Field{item}
			ok = ok && p.skip('>')
		}
	case TypeMap:
		if ok = p.skip('<'); ok {
			key, isKey := p.field("key")
			comma := p.skip(',')
			value, isValue := p.field("value")
			field.Children = []Field{{Name: "entries", Type: TypeStruct, Children: []Field{key, value}}}
			ok = isKey && comma && isValue && p.skip('>')
		}
	case TypeStruct:
		ok = p.skip('<')
		for ok && !p.skip('>') {
			if len(field.Children) > 0 && !p.skip(',') {
				return field, false
			}
			child := p.word("(),<>:?")
			if child == "" || !p.skip(':') {
				return field, false
			}
			var part Field
			part, ok = p.field(child)
			field.Children = append(field.Children, part)
		}
	}
	field.Nullable = p.skip('?') || field.Type == TypeNull
	if field.Type != TypeTimestamp && field.Type != TypeDuration {
		field.Unit = 0
	}
	return field, ok
}

func isUTC(zone string) bool { return zone == "UTC" || zone == "+00:00" || zone == "Z" }

// TypeText is the type as job files write it.
func (f *Field) TypeText() string {
	name := typeNames[f.Type]
	switch f.Type {
	case TypeFixed:
		return fmt.Sprintf("%s(%d)", name, f.Width)
	case TypeTimestamp:
		zone := f.Zone
		if zone == "" {
			zone = "no zone"
		}
		switch {
		case !isUTC(f.Zone):
			return fmt.Sprintf("%s(%s, %s)", name, unitNames[f.Unit], zone)
		case f.Unit != Microsecond:
			return fmt.Sprintf("%s(%s)", name, unitNames[f.Unit])
		}
	case TypeDuration:
		if f.Unit != Microsecond {
			return fmt.Sprintf("%s(%s)", name, unitNames[f.Unit])
		}
	case TypeDecimal:
		return fmt.Sprintf("%s(%d, %d)", name, f.Precision, f.Scale)
	case TypeList:
		return fmt.Sprintf("%s<%s>", name, f.Children[0].TypeText())
	case TypeMap:
		entry := f.Children[0].Children
		return fmt.Sprintf("%s<%s, %s>", name, entry[0].TypeText(), entry[1].TypeText())
	case TypeStruct:
		var parts []string
		for i := range f.Children {
			parts = append(parts, f.Children[i].Name+": "+f.Children[i].TypeText())
		}
		return fmt.Sprintf("%s<%s>", name, strings.Join(parts, ", "))
	}
	return name
}

// IsNumber says whether it is an integer, a float or a decimal.
func (f *Field) IsNumber() bool {
	return f.Type >= TypeInt8 && f.Type <= TypeFloat64 || f.Type == TypeDecimal
}

// fits says whether a column is of the type that is wanted, nulls apart. A zone says how an instant is shown: it is the same number.
func (f *Field) fits(have *Field) bool {
	if f.Type != have.Type || f.Width != have.Width || f.Unit != have.Unit || f.Precision != have.Precision ||
		f.Scale != have.Scale || len(f.Children) != len(have.Children) {
		return false
	}
	for i := range f.Children {
		if f.Type == TypeStruct && f.Children[i].Name != have.Children[i].Name {
			return false
		}
		want, child := &f.Children[i], &have.Children[i]
		if f.Type == TypeMap {
			// The entries' own names differ from writer to writer.
			if child.Type != TypeStruct || len(child.Children) != 2 || !want.Children[0].fits(&child.Children[0]) || !want.Children[1].fits(&child.Children[1]) {
				return false
			}
			continue
		}
		if !want.fits(child) {
			return false
		}
	}
	return true
}

func (f *Field) hasOffsets() bool {
	return f.Type == TypeUtf8 || f.Type == TypeBinary || f.Type == TypeList || f.Type == TypeMap
}

func (f *Field) isNested() bool {
	return f.Type == TypeStruct || f.Type == TypeList || f.Type == TypeMap
}

// width is how many bytes a value of fixed width has; 0 for every other.
func (f *Field) width() int {
	switch f.Type {
	case TypeInt8, TypeUint8:
		return 1
	case TypeInt16, TypeUint16:
		return 2
	case TypeInt32, TypeUint32, TypeFloat32, TypeDate32:
		return 4
	case TypeInt64, TypeUint64, TypeFloat64, TypeTimestamp, TypeDuration:
		return 8
	case TypeDecimal:
		return 16
	case TypeFixed:
		return int(f.Width)
	}
	return 0
}
