package tidemill

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestTypesAreWrittenAsTheyAreRead(t *testing.T) {
	for _, text := range []string{
		"boolean", "int8", "uint64", "float32", "utf8", "binary", "fixed(16)", "date32", "timestamp", "timestamp(ns)",
		"timestamp(ms, Europe/Berlin)", "timestamp(us, no zone)", "duration", "duration(s)", "decimal(10, -2)", "list<timestamp>",
		"struct<a: int64, b: list<utf8>>", "map<utf8, decimal(38, 0)>", "null", "struct<>",
	} {
		if field, err := ParseField("x", text); err != nil || field.TypeText() != text {
			t.Errorf("%s: %s, %v", text, field.TypeText(), err)
		}
	}
	for _, text := range []string{"int", "decimal", "decimal(10)", "list<>", "list<int8", "map<utf8>", "fixed", "int8(3)", "timestamp(h)", ""} {
		if _, err := ParseField("x", text); err == nil {
			t.Errorf("`%s` is taken for a type", text)
		}
	}
}

type place struct {
	X     float64       `tidemill:"x"`
	Flags []bool        `tidemill:"flags"`
	Day   Null[Date]    `tidemill:"day"`
	Code  [3]byte       `tidemill:"code"`
	Deep  Null[[]int16] `tidemill:"deep"`
}

type everything struct {
	ID      int64
	Tags    Null[[]Null[string]]     `tidemill:"tags"`
	Place   Null[place]              `tidemill:"place"`
	Names   Map[string, Null[int32]] `tidemill:"names"`
	Raw     []byte                   `tidemill:"raw"`
	At      Timestamp                `tidemill:"at,timestamp(ns)"`
	For     Duration                 `tidemill:"for"`
	Price   Null[Decimal]            `tidemill:"price,decimal(20, 2)"`
	Numbers []float64                `tidemill:"numbers"`
	Flag    bool                     `tidemill:"flag"`
	Left    chan int                 `tidemill:"-"`
}

func rowsOf(n int) []everything {
	var rows []everything
	for i := range n {
		row := everything{ID: int64(i), Raw: []byte{byte(i), 0}, At: Timestamp(-i), For: Duration(i), Flag: i%2 == 1, Numbers: []float64{}, Names: Map[string, Null[int32]]{}}
		if i%3 != 2 {
			row.Tags = Some([]Null[string]{Some(strings.Repeat("x", i%40)), {}, Some("é")})
		}
		if i%5 != 4 {
			row.Place = Some(place{X: float64(i) / 2, Flags: []bool{true, i%2 == 0}, Code: [3]byte{1, 2, byte(i)}})
			if i%2 == 0 {
				row.Place.Value.Day, row.Place.Value.Deep = Some(Date(i)), Some([]int16{1, int16(i)})
			}
		}
		if i%7 != 6 {
			row.Price = Some(Decimal{Low: uint64(i), High: -1})
			row.Numbers = append(row.Numbers, 1, float64(i))
			row.Names = append(row.Names, Entry[string, Null[int32]]{"k", Some(int32(i))}, Entry[string, Null[int32]]{"n", Null[int32]{}})
		}
		rows = append(rows, row)
	}
	return rows
}

func TestRowsComeThroughWhole(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 300} {
		out, rows := TestEmitter[everything](), rowsOf(n)
		for _, row := range rows {
			out.Emit(row)
		}
		if found := Emitted(out); !slices.EqualFunc(found, rows, func(a, b everything) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%d rows: %+v\n%+v", n, found, rows)
		}
	}
}

func TestAValueOfAnyTypeIsCopied(t *testing.T) {
	layout, err := LayoutOf[everything]()
	if err != nil {
		t.Fatal(err)
	}
	from, to, rows := NewTable(layout.Schema), NewTable(layout.Schema), rowsOf(40)
	for i := range rows {
		layout.Append(from, &rows[i])
	}
	raw, err := from.Finish()
	if err != nil {
		t.Fatal(err)
	}
	var batch Batch
	batch.Lift(raw, layout.Schema)
	for row := range batch.Rows {
		for i := range batch.Columns {
			to.Column(i).PutValue(&batch.Columns[i], row)
		}
		to.EndRow()
	}
	copied, err := to.Finish()
	if err != nil || !reflect.DeepEqual(copied.Nodes, raw.Nodes) || !reflect.DeepEqual(copied.Buffers, raw.Buffers) {
		t.Error("the copy is another", err)
	}
}

func TestWhatDoesNotFitIsTold(t *testing.T) {
	type row struct {
		Number int64 `tidemill:"number"`
	}
	layout, err := LayoutOf[row]()
	if err != nil {
		t.Fatal(err)
	}
	check := func(schema, keys Schema, expected string) {
		t.Helper()
		if err := layout.Check(schema, keys, ""); err == nil || err.Error() != expected || !IsWrongSchema(err) {
			t.Error(err)
		}
	}
	check(Schema{MustField("number", "utf8?")}, nil, "column `number` is utf8, int64 is expected")
	check(nil, nil, "column `number` is missing, int64 is expected")
	check(nil, Schema{MustField("number", "int64")}, "column `number` is a key of the step, and is expected not to be one")
	if err := layout.Check(Schema{MustField("number", "int64?")}, nil, ""); err != nil {
		t.Error(err)
	}
	if _, err := LayoutOf[struct{ Left chan int }](); err == nil || !strings.Contains(err.Error(), "chan int is no type of a column") {
		t.Error(err)
	}

	table := NewTable(Schema{MustField("a", "int64"), MustField("b", "int64")})
	Put(table.Column(0), int64(1))
	table.EndRow()
	if _, err := table.Finish(); err == nil || err.Error() != "column `b` was given 0 values for 1 row" || !IsFailure(err) {
		t.Error(err)
	}
	table.Reset()
	table.Column(0).PutNull()
	Put(table.Column(1), int64(1))
	table.EndRow()
	if _, err := table.Finish(); err == nil || err.Error() != "column `a` is declared without nulls, and was given one" {
		t.Error(err)
	}
}

func TestTheConfigurationIsChecked(t *testing.T) {
	var config struct {
		Gap Duration `json:"gap"`
		Min float64  `json:"min"`
	}
	for text, expected := range map[string]string{
		`{"max": 1}`:   "unknown field `max`",
		`{"min": "1"}`: "`min` is a string, and has to be a float64",
		`{"gap": "5"}`: "`5` is not a duration, as `30s` and `1h30m` are",
	} {
		if err := (&Step{Config: text}).ReadConfig(&config); err == nil || err.Error() != expected {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := (&Step{Config: `{"gap": "1h30m", "min": 2}`}).ReadConfig(&config); err != nil || config.Gap != 5_400_000_000 || config.Min != 2 {
		t.Error(config, err)
	}
}

func TestDurationsAreThoseOfJobFiles(t *testing.T) {
	for text, us := range map[string]Duration{"1h30m": 5_400_000_000, "1.5s": 1_500_000, "250ms": 250_000, "0": 0, "7us": 7} {
		if found, err := ParseDuration(text); err != nil || found != us {
			t.Errorf("%s: %d, %v", text, found, err)
		}
	}
	for _, text := range []string{"", "5", "1m1h", "1.s", "x", "1.2.3s", "9999999999d"} {
		if found, err := ParseDuration(text); err == nil {
			t.Errorf("%s: %d", text, found)
		}
	}
}

func TestWordsStandBetweenASCIIWhiteSpace(t *testing.T) {
	text := " to\tbe\u00a0or \f\r\nnot\vso "
	if words := slices.Collect(Words(text)); !slices.Equal(words, []string{"to", "be\u00a0or", "not\vso"}) {
		t.Errorf("%q", words)
	}
}

func TestRowsThatCannotBeReadAreRejected(t *testing.T) {
	type row struct {
		N    int64  `tidemill:"n"`
		Text string `tidemill:"text"`
	}
	layout, err := LayoutOf[row]()
	if err != nil {
		t.Fatal(err)
	}
	schema := Schema{MustField("n", "int64?"), MustField("text", "utf8?")}
	table := NewTable(schema)
	for i := range 5 {
		if i == 3 {
			table.Column(0).PutNull()
		} else {
			Put(table.Column(0), int64(i))
		}
		table.Column(1).PutString("t")
		table.EndRow()
	}
	raw, _ := table.Finish()
	var batch Batch
	batch.Lift(raw, schema)
	rows, err := RowsOf(layout, &batch)
	if err != nil {
		t.Fatal(err)
	}
	out := TestEmitter[row]()
	grouped := GroupedOf(rows, []uint32{2, 2, 5}, 0)
	seq, n, of := Go(grouped, 2, "", out)
	var numbers []int64
	for id, row := range seq {
		numbers = append(numbers, row.N)
		if id.row != uint32(row.N) {
			t.Error(id, row)
		}
	}
	if n != 2 || of != 3 || !slices.Equal(numbers, []int64{2, 4}) {
		t.Error(n, of, numbers)
	}
	if rejected := Rejected(out, 0); len(rejected) != 1 || rejected[0] != (Rejection{3, "column `n` is null"}) {
		t.Error(rejected)
	}
}
