package main

import (
	"errors"
	"fmt"

	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
)

// config is what every role is told: all know all keys, and each looks at its own.
type config struct {
	Refuse      string `json:"refuse"`
	Fail        string `json:"fail"`
	RejectEvery uint64 `json:"reject-every"`
	By          string `json:"by"`
	Diagnostics bool   `json:"diagnostics"`
	Repeat      *int   `json:"repeat"`
	Carry       bool   `json:"carry"`
	Invertible  bool   `json:"invertible"`
	EveryKey    bool   `json:"every-key"`
	Timeouts    string `json:"timeouts"`
	TimeoutUs   *int64 `json:"timeout-us"`
	RemoveAt    *int64 `json:"remove-at"`
}

func (c *config) open(step *tidemill.Step) error {
	*c = config{}
	if err := step.ReadConfig(c); err != nil {
		return err
	}
	switch c.Refuse {
	case "config":
		return errors.New("refused as asked")
	case "schema":
		return tidemill.WrongSchema("refused as asked")
	case "other":
		return tidemill.Refused("refused as asked")
	}
	return nil
}

func (c *config) openWithoutRejections(step *tidemill.Step) error {
	err := c.open(step)
	if err == nil && c.RejectEvery > 0 {
		err = errors.New("`reject-every` is for roles that reject rows")
	}
	return err
}

func (c *config) begin(rows int) error {
	if c.Diagnostics {
		tidemill.Log(tidemill.Info, fmt.Sprintf("conform: %d rows", rows))
		tidemill.Count("conform_rows", uint64(rows))
		tidemill.Gauge("conform_last", float64(rows))
	}
	switch c.Fail {
	case "retry":
		return tidemill.FailedForNow("failed as asked")
	case "fatal":
		return tidemill.Failed("failed as asked")
	}
	return nil
}

func (c *config) rejects(number uint64) bool {
	return c.RejectEvery > 0 && number%c.RejectEvery == c.RejectEvery-1
}

// put appends the columns of a row, from `first` on, to columns of a table from `at` on.
func (c *config) put(to *tidemill.Table, at int, from *tidemill.Batch, first, row int) {
	for i := first; i < len(from.Columns); i++ {
		builder := to.Column(at + i - first)
		if c.By == "rows" {
			putAsItsType(builder, &from.Columns[i], row)
		} else {
			builder.PutValue(&from.Columns[i], row)
		}
	}
}

// putAsItsType appends a value as an author would who knows its type.
func putAsItsType(to *tidemill.Builder, from *tidemill.Column, row int) {
	if from.IsNull(row) {
		to.PutNull()
		return
	}
	switch from.Field.Type {
	case tidemill.TypeBoolean:
		to.PutBool(from.Bool(row))
	case tidemill.TypeInt8:
		tidemill.Put(to, tidemill.Values[int8](from)[row])
	case tidemill.TypeInt16:
		tidemill.Put(to, tidemill.Values[int16](from)[row])
	case tidemill.TypeInt32, tidemill.TypeDate32:
		tidemill.Put(to, tidemill.Values[int32](from)[row])
	case tidemill.TypeInt64, tidemill.TypeTimestamp, tidemill.TypeDuration:
		tidemill.Put(to, tidemill.Values[int64](from)[row])
	case tidemill.TypeUint8:
		tidemill.Put(to, tidemill.Values[uint8](from)[row])
	case tidemill.TypeUint16:
		tidemill.Put(to, tidemill.Values[uint16](from)[row])
	case tidemill.TypeUint32:
		tidemill.Put(to, tidemill.Values[uint32](from)[row])
	case tidemill.TypeUint64:
		tidemill.Put(to, tidemill.Values[uint64](from)[row])
	case tidemill.TypeFloat32:
		tidemill.Put(to, tidemill.Values[float32](from)[row])
	case tidemill.TypeFloat64:
		tidemill.Put(to, tidemill.Values[float64](from)[row])
	case tidemill.TypeDecimal:
		tidemill.Put(to, tidemill.Values[tidemill.Decimal](from)[row])
	case tidemill.TypeUtf8:
		to.PutString(from.String(row))
	case tidemill.TypeBinary, tidemill.TypeFixed:
		to.PutBytes(from.Bytes(row))
	case tidemill.TypeList:
		start, end := from.Range(row)
		for i := start; i < end; i++ {
			putAsItsType(to.Child(0), &from.Children()[0], i)
		}
		to.PutList()
	case tidemill.TypeMap:
		start, end := from.Range(row)
		entries, made := &from.Children()[0], to.Child(0)
		for i := start; i < end; i++ {
			putAsItsType(made.Child(0), &entries.Children()[0], i)
			putAsItsType(made.Child(1), &entries.Children()[1], i)
			made.PutStruct()
		}
		to.PutList()
	case tidemill.TypeStruct:
		for i := range from.Children() {
			putAsItsType(to.Child(i), &from.Children()[i], row)
		}
		to.PutStruct()
	}
}

// behind puts columns behind those of the operator's own.
func behind(schema tidemill.Schema, own ...tidemill.Field) (tidemill.Schema, error) {
	for _, field := range own {
		if schema.Find(field.Name) >= 0 {
			return nil, tidemill.WrongSchema("there is a column `%s`, which is the operator's own", field.Name)
		}
	}
	return append(own, schema...), nil
}
