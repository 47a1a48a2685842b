package tidemill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unsafe"
)

// Contract is the version of the contract that this SDK speaks.
const Contract = "0.1.0"

// Step is where an operator runs and how it is configured.
type Step struct {
	// Job and Step are the names of the job and of the step in it.
	Job, Step string
	// Partitions is the job's default number of partitions. A batch may have more or fewer.
	Partitions uint32
	// Config is the step's `config`, as JSON.
	Config string
}

// ReadConfig decodes the configuration into a struct, or whatever encoding/json knows. Keys that it has no place for are refused.
func (s *Step) ReadConfig(into any) error {
	decoder := json.NewDecoder(strings.NewReader(s.Config))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return fmt.Errorf("`%s` is a %s, and has to be a %s", wrongType.Field, wrongType.Value, wrongType.Type)
	default:
		// Line and column are those of JSON that the user has not written.
		text := strings.TrimPrefix(err.Error(), "json: ")
		return errors.New(strings.ReplaceAll(text, `"`, "`"))
	}
}

// Call is what a call belongs to. The same rows always come with the same call.
type Call struct {
	// BatchID is the batch's number, from 0.
	BatchID uint64
	// BatchTime is the batch's time. The clocks of a plugin show it as well.
	BatchTime Timestamp
	// Partition is the partition's number, from 0.
	Partition uint32
	// Attempt is 0 at the first.
	Attempt uint32
	// FirstRow is how many rows of the partition came in the calls before; for a grouper and an updater, rows and keys.
	FirstRow uint64
	// Watermark is that of event time, when the job has one.
	Watermark Null[Timestamp]
}

type failure struct {
	text  string
	retry bool
}

func (f *failure) Error() string { return f.text }

// Failed makes an error that fails the call as a whole, for good.
func Failed(format string, a ...any) error { return &failure{text: fmt.Sprintf(format, a...)} }

// FailedForNow makes an error that fails the call as a whole, and is worth trying again later.
func FailedForNow(format string, a ...any) error {
	return &failure{text: fmt.Sprintf(format, a...), retry: true}
}

// IsFailure says whether an error fails the call: everything else rejects a row.
func IsFailure(err error) bool {
	var failed *failure
	return errors.As(err, &failed)
}

// IsForNow says whether a failure is worth trying again.
func IsForNow(err error) bool {
	var failed *failure
	return errors.As(err, &failed) && failed.retry
}

type wrongSchema struct{ text string }

func (w *wrongSchema) Error() string { return w.text }

// WrongSchema makes an error that says, in Open, that the columns do not fit.
func WrongSchema(format string, a ...any) error { return &wrongSchema{fmt.Sprintf(format, a...)} }

type refused struct{ text string }

func (r *refused) Error() string { return r.text }

// Refused makes an error that says, in Open, that neither the configuration nor the columns are to blame.
func Refused(format string, a ...any) error { return &refused{fmt.Sprintf(format, a...)} }

// IsRefused says whether an error is one of [Refused].
func IsRefused(err error) bool {
	var other *refused
	return errors.As(err, &other)
}

// IsWrongSchema says whether an error is one of [WrongSchema].
func IsWrongSchema(err error) bool {
	var wrong *wrongSchema
	return errors.As(err, &wrong)
}

// Rejection is a row of the input that cannot be processed, and why.
type Rejection struct {
	Row    uint32
	Reason string
}

// Null is a value that may be null.
type Null[T any] struct {
	Value T
	// Valid is false when it is null.
	Valid bool
}

// Some makes a value that is not null.
func Some[T any](value T) Null[T] { return Null[T]{value, true} }

// Get gives the value, and whether there is one.
func (n Null[T]) Get() (T, bool) { return n.Value, n.Valid }

// Or gives the value, or another where it is null.
func (n Null[T]) Or(otherwise T) T {
	if n.Valid {
		return n.Value
	}
	return otherwise
}

func (Null[T]) isNull() {}

// Date is days since 1970-01-01.
type Date int32

// Timestamp is microseconds since 1970-01-01 UTC, or another unit where the tag says so.
type Timestamp int64

// Duration is a length of time in microseconds, or another unit where the tag says so. In a configuration it is text with a
// unit, as in a job file: "1h30m".
type Duration int64

var durationUnits = []struct {
	name string
	us   int64
}{{"d", 86_400_000_000}, {"h", 3_600_000_000}, {"m", 60_000_000}, {"s", 1_000_000}, {"ms", 1_000}, {"us", 1}}

// ParseDuration reads a length of time as job files write it, into microseconds.
func ParseDuration(text string) (Duration, error) {
	wrong := fmt.Errorf("`%s` is not a duration, as `30s` and `1h30m` are", text)
	rest, units, sum := text, durationUnits, int64(0)
	if text == "0" {
		return 0, nil
	}
	for first := true; first || rest != ""; first = false {
		letters := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if letters < 0 {
			return 0, wrong
		}
		digits, unit := rest[:letters], rest[letters:]
		if end := strings.IndexAny(unit, ".0123456789"); end >= 0 {
			unit = unit[:end]
		}
		rest = rest[len(digits)+len(unit):]
		for len(units) > 0 && units[0].name != unit {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, wrong
		}
		whole, part, hasPart := strings.Cut(digits, ".")
		n, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || hasPart && part == "" || n > (1<<63-1-sum)/units[0].us {
			return 0, wrong
		}
		sum += n * units[0].us
		place := units[0].us
		for _, digit := range part {
			if digit == '.' {
				return 0, wrong
			}
			place /= 10
			sum += int64(digit-'0') * place
		}
		units = units[1:]
	}
	return Duration(sum), nil
}

// UnmarshalJSON reads text with a unit.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var word string
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	if err := json.Unmarshal(text, &word); err != nil {
		return fmt.Errorf("`%s` is not a duration, as `30s` and `1h30m` are", text)
	}
	parsed, err := ParseDuration(word)
	*d = parsed
	return err
}

// Decimal is a number's digits without the point, as a whole number of 128 bits.
type Decimal struct {
	Low  uint64
	High int64
}

// Map is the entries of a map, in their order. Keys are not null.
type Map[K, V any] []Entry[K, V]

// Entry is one of them.
type Entry[K, V any] struct {
	Key   K `tidemill:"key"`
	Value V `tidemill:"value"`
}

func (Map[K, V]) isMap() {}

// Words gives the words of a text: what stands between ASCII white space.
func Words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		n := len(text)
		at := unsafe.Pointer(unsafe.StringData(text))
		i := 0
		for {
			for i < n && isWhite[*(*byte)(unsafe.Add(at, i))] {
				i++
			}
			if i == n {
				return
			}
			start := i
			for i < n && !isWhite[*(*byte)(unsafe.Add(at, i))] {
				i++
			}
			if !yield(text[start:i]) {
				return
			}
		}
	}
}

var isWhite = [256]bool{' ': true, '\t': true, '\n': true, '\f': true, '\r': true}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// Opener is an operator that looks at its step before any row flows. An error refuses the step: [WrongSchema] the columns,
// any other the configuration.
type Opener interface {
	Open(step *Step) error
}

// Configure decodes the step's configuration into an operator, and has it opened: for the packages of roles.
func Configure(operator any, step *Step) error {
	if err := step.ReadConfig(operator); err != nil {
		return err
	}
	if opener, ok := operator.(Opener); ok {
		return opener.Open(step)
	}
	return nil
}

// Pick gives the columns of these names: for the packages of roles.
func Pick(schema Schema, names []string) (Schema, error) {
	var picked Schema
	for _, name := range names {
		at := schema.Find(name)
		if at < 0 {
			return nil, WrongSchema("column `%s` is missing", name)
		}
		picked = append(picked, schema[at])
	}
	return picked, nil
}
