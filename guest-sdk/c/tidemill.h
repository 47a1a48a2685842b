/* tidemill.h: write Tidemill operators in C. Contract tidemill:operator@0.1.0, SDK 0.1.
 *
 * A single header, without a library behind it. One file of the plugin has the implementation:
 *
 *     #define TIDEMILL_IMPLEMENTATION
 *     #include "tidemill.h"
 *
 *     static uint32_t value, word;                    // the numbers of columns
 *
 *     static void open(tm_open *o) {
 *         value = tm_read(o, "value", "utf8");        // a column that is sent
 *         word = tm_write(o, "word", "utf8");         // a column that comes back
 *     }
 *
 *     static void process(tm_call *c) {
 *         while (tm_next_row(c)) {
 *             tm_text rest = tm_row_text(c, value), next;
 *             while (tm_next_word(&rest, &next)) {
 *                 tm_put_text(tm_out(c, word), next);
 *                 tm_emit(c);
 *             }
 *         }
 *     }
 *
 *     TIDEMILL_TRANSFORM(open, process)
 *
 * ROLES. One macro each, at the end of the file; a plugin may have several.
 *
 *     TIDEMILL_TRANSFORM(open, process)                        map, flat-map, filter
 *     TIDEMILL_REDUCER(open, reduce)                           rows of a key into one of the same columns; associative
 *     TIDEMILL_REDUCER_INVERTIBLE(open, reduce, invert)        the same, for sliding windows
 *     TIDEMILL_AGGREGATOR(open, accumulate, merge, finish)     rows into an accumulator, accumulators into a result
 *     TIDEMILL_GROUPER(open, process)                          all rows of a key at once, of one input or of more
 *     TIDEMILL_UPDATER(open, update)                           a key's state and its new rows
 *
 * `open` is a function of tm_open: it names the columns, reads the configuration, and may refuse. The others are functions
 * of tm_call. An instance serves one step, so static variables that `open` sets are there in every call; what calls
 * leave in them is not kept by anybody. Functions are called one at a time.
 *
 * TYPES are text, written as in job files: `boolean`, `int8` to `uint64`, `float32`, `float64`, `utf8`, `binary`, `date32`,
 * `timestamp` (microseconds, UTC), `timestamp(ns)`, `timestamp(ms, Europe/Berlin)`, `duration`, `duration(ms)`,
 * `decimal(10, 2)`, `fixed(16)` (as many bytes each), `null`, `list<T>`, `struct<a: T, b: U>`, `map<K, V>`. A `?` behind a
 * type says that its values may be null. A column that is read without `?` may hold nulls all the same, as every column of a
 * source does: tm_next_row() then leaves the row out and rejects it; in a reducer or an aggregator the call fails.
 *
 * MEMORY. Everything that a call gets and builds is gone when it has returned. tm_alloc() gives memory of the same life,
 * tm_keep() gives some that stays. There is no free(). malloc() works as well where there is a libc.
 *
 * ERRORS. What is wrong is said once: after tm_refuse_*() or tm_fail() every other function does nothing, cursors
 * end, and the first words count. So there is nothing to check after each line. With NDEBUG it is not checked that a getter
 * or a tm_put_*() fits its column's type; without, a misfit says so in the job's log and traps.
 *
 * BUILD. `tidemill plugin build`, or by hand with any clang that has WebAssembly, then a component encoder:
 *
 *     zig cc --target=wasm32-wasi -mexec-model=reactor -msimd128 -O3 -s -o core.wasm operator.c
 *
 * Licence: Apache-2.0.
 */
#ifndef TIDEMILL_H
#define TIDEMILL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The contract that this header speaks. */
#define TIDEMILL_CONTRACT "0.1.0"

/* ---------------------------------------------------------------------------------------------- values and schemas -- */

/* Text in UTF-8, or bytes; not ended by a zero. */
typedef struct tm_text {
    const char *data;
    size_t size;
} tm_text;

/* A decimal's digits, without the point. */
__extension__ typedef __int128 tm_i128;

/* A type without what it is made of. The numbers are the contract's. */
enum {
    TM_NULL, TM_BOOLEAN, TM_INT8, TM_INT16, TM_INT32, TM_INT64, TM_UINT8, TM_UINT16, TM_UINT32, TM_UINT64,
    TM_FLOAT32, TM_FLOAT64, TM_UTF8, TM_BINARY, TM_FIXED, TM_DATE32, TM_TIMESTAMP, TM_DURATION, TM_DECIMAL,
    TM_LIST, TM_STRUCT, TM_MAP
};

/* The unit of a timestamp or a duration. */
enum { TM_SECOND, TM_MILLISECOND, TM_MICROSECOND, TM_NANOSECOND };

/* One field of a schema, as it crosses. A schema is the list of all its fields in pre-order. */
typedef struct tm_field {
    tm_text name;
    uint8_t type;                        /* TM_INT64, ... */
    union {
        uint32_t width;                  /* TM_FIXED: bytes of each value */
        struct {
            uint8_t unit;                /* TM_MICROSECOND, ... */
            struct {
                uint8_t is_some;
                tm_text name;
            } zone;
        } timestamp;
        uint8_t unit;                    /* TM_DURATION */
        struct {
            uint8_t precision;
            int8_t scale;
        } decimal;
    } of;
    bool nullable;
    uint32_t n_children;                 /* how many of the fields that follow are its direct children */
} tm_field;

/* The fields of the rows of a batch. */
typedef struct tm_schema {
    const tm_field *fields;              /* in pre-order */
    size_t n_fields;
} tm_schema;

/* A column of a batch: views of the bytes that came, nothing is copied. */
typedef struct tm_column {
    const tm_field *field;
    uint32_t length;
    uint32_t null_count;
    const uint8_t *validity;             /* one bit a value, the lowest first; NULL: no value is null */
    const void *values;                  /* of fixed width; bits of booleans; the bytes of all texts */
    const int32_t *offsets;              /* texts, lists and maps: `length + 1` of them */
    const struct tm_column *children;    /* a list's items; a struct's fields; a map's entries, a struct of key and value */
    uint32_t n_children;
} tm_column;

/* Rows. Columns have the numbers that tm_read(), tm_key() and tm_keep_state() gave. */
typedef struct tm_batch {
    uint32_t n_rows;
    uint32_t n_columns;
    const tm_column *columns;
} tm_batch;

/* Bytes that grow. */
typedef struct tm_buffer {
    uint8_t *data;
    size_t size, capacity;
    size_t hint;                         /* bytes to begin with: what the last call needed */
} tm_buffer;

/* A column that is being built: see tm_put_i64() and its neighbours. */
typedef struct tm_builder {
    const tm_field *field;
    uint32_t length;
    uint32_t null_count;
    tm_buffer validity;                  /* empty until the first null */
    tm_buffer values;                    /* as those of a column */
    tm_buffer offsets;
    struct tm_builder *children;
    uint32_t n_children;
} tm_builder;

/* Rows that are being built. */
typedef struct tm_table {
    uint32_t n_rows;
    uint32_t n_columns;
    tm_builder *columns;
} tm_table;

/* Text of a C string; of its first bytes. */
static inline tm_text tm_str(const char *text) {
    tm_text made = { text, 0 };
    while (text[made.size]) made.size++;
    return made;
}
static inline tm_text tm_bytes(const void *data, size_t size) {
    tm_text made = { (const char *)data, size };
    return made;
}
bool tm_same(tm_text a, tm_text b);
/* Less than 0, 0, or more: by bytes. */
int tm_compare(tm_text a, tm_text b);

/* The next word of a text: what stands between ASCII white space. `rest` begins behind it then. */
bool tm_next_word(tm_text *rest, tm_text *word);

/* printf to text of this call: %s %.*s %c %d %u %x %ld %lu %lld %llu %zu %f %g %%, with width and precision for %.Nf only. */
#define TM_PRINTF(text, first) __attribute__((format(printf, text, first)))
tm_text tm_format(const char *format, ...) TM_PRINTF(1, 2);
/* The type of a field as job files write it. `field` is followed by its children. */
tm_text tm_type_text(const tm_field *field);
/* Whether it is an integer, a float or a decimal. */
bool tm_is_number(const tm_field *field);
/* How many fields it is made of: its own and its children's. */
size_t tm_field_size(const tm_field *field);

/* Memory until the call ends; until the instance does. Zeroed, aligned to 16. Traps when there is none left. */
void *tm_alloc(size_t size);
void *tm_keep(size_t size);

/* -------------------------------------------------------------------------------------------------------------- open -- */

/* A value of JSON: its text. */
typedef tm_text tm_json;

/* What is wanted of the columns of one input. */
typedef struct tm__read {
    tm_field *fields;                    /* as it came */
    bool nullable;                       /* whether the operator has a place for nulls */
    bool is_named;                       /* by tm_read() */
} tm__read;
typedef struct tm__reads {
    bool all;
    uint32_t n;
    tm__read *columns;
} tm__reads;

/* A schema that grows. */
typedef struct tm__fields {
    tm_field *fields;
    uint32_t n_fields, n_columns, capacity;
} tm__fields;

/* What `open` gets: where the operator runs, and what it is told of its columns. */
typedef struct tm_open {
    tm_text job, step;                   /* the names of the job and of the step */
    uint32_t partitions;                 /* the job's default number of partitions */
    tm_text config;                      /* the step's `config`, as JSON; "{}" when there is none */
    tm_schema keys;                      /* groupers and updaters: the key columns */
    const tm_schema *inputs;             /* the columns of each input that are not keys; a transform's: all */
    uint32_t n_inputs;
    bool invertible;                     /* reducers: whether `invert` works, which `open` may change */
    uint8_t role;                        /* the rest is the header's own */
    uint8_t carries, calling, timeouts;
    bool tells_origin;
    tm__fields carried;
    tm__reads key_reads;
    tm__reads *reads;
    tm__fields state, writes;
    tm_text *config_keys;
    uint32_t n_config_keys;
    uint8_t refusal;                     /* 0: none */
    tm_text reason;
} tm_open;

/* Has a column sent, and gives its number. `type` is as above; NULL fits any type, and nulls. Without it, or with another
 * type, the step is refused. A reducer reads all columns that are not keys, and writes them under the same numbers. */
uint32_t tm_read(tm_open *o, const char *name, const char *type);
/* The same, of another input than the first: cogroup. */
uint32_t tm_read_of(tm_open *o, uint32_t input, tm_text name, const char *type);
/* Has all columns of an input sent; their numbers are their places. Nulls have a place. */
void tm_read_all(tm_open *o, uint32_t input);
/* Reads a column of the key: groupers and updaters. */
uint32_t tm_key(tm_open *o, const char *name, const char *type);
/* The field of a column that is read, with its children behind it. */
const tm_field *tm_read_field(const tm_open *o, uint32_t column);

/* Adds a column to what comes out: of a transform's rows; behind the keys; of an aggregator's result. Gives its number. */
uint32_t tm_write(tm_open *o, const char *name, const char *type);
/* The same, a column like another, under a name. */
uint32_t tm_write_like(tm_open *o, tm_text name, const tm_field *field);
/* Adds a column to an updater's state, or to an aggregator's accumulator. */
uint32_t tm_keep_state(tm_open *o, const char *name, const char *type);
uint32_t tm_keep_state_like(tm_open *o, tm_text name, const tm_field *field);

/* A transform's columns go along without crossing: all, or those named. A filter carries all and writes nothing. */
void tm_carry_all(tm_open *o);
void tm_carry(tm_open *o, const char *name);
/* Has it told which row each row comes from though nothing is carried: whoever looks at the plugin alone can see it then. */
void tm_tell_origin(tm_open *o);

/* Updaters: called for every key that has state, not for those with rows alone. */
void tm_call_every_key(tm_open *o);
/* Updaters: timeouts are held against the batch's time; against the watermark. */
void tm_use_batch_time(tm_open *o);
void tm_use_event_time(tm_open *o);

/* Keys of the configuration. Without the last argument the key has to be there; null is as good as nothing. Keys that `open` does not ask for are
 * refused. A text is UTF-8 without escapes. A duration is text with a unit, as "1h30m", given in microseconds. */
double tm_config_f64(tm_open *o, const char *key);
double tm_config_f64_or(tm_open *o, const char *key, double otherwise);
int64_t tm_config_i64(tm_open *o, const char *key);
int64_t tm_config_i64_or(tm_open *o, const char *key, int64_t otherwise);
bool tm_config_bool(tm_open *o, const char *key);
bool tm_config_bool_or(tm_open *o, const char *key, bool otherwise);
tm_text tm_config_text(tm_open *o, const char *key);
tm_text tm_config_text_or(tm_open *o, const char *key, const char *otherwise);
int64_t tm_config_duration_us(tm_open *o, const char *key);
int64_t tm_config_duration_us_or(tm_open *o, const char *key, int64_t otherwise);
/* Anything else: the value, to be looked at with the functions below; size 0 when there is none. */
tm_json tm_config_json(tm_open *o, const char *key);

/* The value of a key of an object, an item of an array: size 0 when there is none. */
tm_json tm_json_get(tm_json object, const char *key);
tm_json tm_json_item(tm_json array, uint32_t index);
/* Whether there is a next item, or key and value; `at` begins with 0. */
bool tm_json_next(tm_json container, size_t *at, tm_text *key, tm_json *value);
/* '{', '[', '"', 't', 'f', 'n', '0' for a number, or 0. */
char tm_json_kind(tm_json value);
/* False when it is of another kind. */
bool tm_json_f64(tm_json value, double *number);
bool tm_json_i64(tm_json value, int64_t *number);
bool tm_json_text(tm_json value, tm_text *text);
/* A length of time as job files write it. */
bool tm_parse_duration_us(tm_text text, int64_t *us);

/* Declines: the configuration is wrong; the columns do not fit; anything else. Say what would be right. */
void tm_refuse_config(tm_open *o, const char *format, ...) TM_PRINTF(2, 3);
void tm_refuse_schema(tm_open *o, const char *format, ...) TM_PRINTF(2, 3);
void tm_refuse(tm_open *o, const char *format, ...) TM_PRINTF(2, 3);

/* ------------------------------------------------------------------------------------------------------------- calls -- */

/* Where an input is read. */
typedef struct tm__cursor {
    uint32_t next, end, n_readable;
    const uint32_t *ends;
    bool may_be_null;
} tm__cursor;
/* Rows of an input that cannot be processed. */
typedef struct tm__rejected {
    tm_buffer list;
    uint32_t n;
} tm__rejected;

/* What a call gets and gives. */
typedef struct tm_call {
    uint64_t batch_id;                   /* the batch's number, from 0 */
    int64_t batch_time_us;               /* since 1970-01-01 UTC */
    uint32_t partition;
    uint32_t attempt;                    /* 0 at the first */
    uint64_t first_row;                  /* rows of this partition in the calls before */
    bool has_watermark;
    int64_t watermark_us;

    tm_batch keys;                       /* groupers, updaters: row i is the key of group i */
    const tm_batch *in;                  /* the rows of each input; invert: the whole, and the part */
    uint32_t n_inputs;
    tm_batch state;                      /* updaters: of the keys that have some, in their order */

    uint32_t row;                        /* the row that tm_next_row() has given */
    uint32_t group, n_groups;            /* the group that tm_next_group() has given */
    uint32_t n_rows;                     /* rows of the group in the first input that can be read */
    bool has_state, timed_out;           /* updaters: of the group's key */
    uint32_t state_row;                  /* where in `state` its state is */

    tm_table out;                        /* what comes out */
    tm_table new_state;                  /* updaters */

    tm__cursor *cursors;                 /* the rest is the header's own */
    uint32_t row_input;
    uint8_t role, step;
    bool keeps_origin, state_set, state_removed;
    uint32_t n_states;
    tm_buffer origin;                    /* u32 a row that came out: the row, or the group, it came from */
    tm__rejected *rejected;
    uint8_t *changes;
    int64_t *timeouts_us;
    const uint8_t *had_state, *had_timed_out;
    uint8_t failure;                     /* 0: none */
    tm_text reason;
} tm_call;

/* Goes to the next row of the input, or of the group in the first input; false behind the last. */
bool tm_next_row(tm_call *c);
/* The same, of another input: cogroup. */
bool tm_next_row_of(tm_call *c, uint32_t input);
/* Goes to the next group: of a reducer, an aggregator, a grouper; to the next key of an updater. False behind the last. A
 * group whose rows have all been rejected is passed over. */
bool tm_next_group(tm_call *c);
/* How many rows of an input the group has that can be read. */
uint32_t tm_n_rows(const tm_call *c, uint32_t input);
/* Before the group's first row again. */
void tm_rewind(tm_call *c, uint32_t input);

/* A row of `out` is complete: each of its columns has been given a value. It comes from the row, or the group, at which
 * the cursor stands. Reducers and aggregators do without: they give one row for each group, or each row. */
static inline void tm_emit(tm_call *c);
/* A transform's row that comes from another row of the input. */
void tm_emit_from(tm_call *c, uint32_t row);
/* The row at which the cursor stands cannot be processed: a transform, a grouper, an updater. What has been emitted stays. */
void tm_reject(tm_call *c, const char *format, ...) TM_PRINTF(2, 3);
void tm_reject_row(tm_call *c, uint32_t input, uint32_t row, const char *format, ...) TM_PRINTF(4, 5);

/* The call as a whole fails: for good; or worth trying again. */
void tm_fail(tm_call *c, const char *format, ...) TM_PRINTF(2, 3);
void tm_fail_for_now(tm_call *c, const char *format, ...) TM_PRINTF(2, 3);

/* Updaters. The state of the group's key becomes what has been put into each column of `new_state`. Without a word about it,
 * a key's state and its timeout stay; with tm_remove_state() both are gone. */
void tm_set_state(tm_call *c);
void tm_remove_state(tm_call *c);
/* When the key is called again, timed out: in the first batch whose time, or whose watermark, is not before it. */
void tm_set_timeout(tm_call *c, int64_t at_us);
/* This long after the batch's time: where timeouts are held against that. */
void tm_set_timeout_after(tm_call *c, int64_t us);
void tm_clear_timeout(tm_call *c);

/* Tells the job's log, and the step's metrics. */
enum { TM_DEBUG, TM_INFO, TM_WARN, TM_ERROR };
void tm_log(int level, const char *format, ...) TM_PRINTF(2, 3);
void tm_count(const char *name, uint64_t add);
void tm_gauge(const char *name, double value);

/* ----------------------------------------------------------------------------------------------------------- getters -- */

void tm__misfit(const tm_field *field, const char *function) __attribute__((noreturn, cold));
#ifdef NDEBUG
#define TM__FITS(field, condition) ((void)0)
#else
#define TM__FITS(field, condition) ((condition) ? (void)0 : tm__misfit(field, __func__))
#endif

/* Whether the value at a row is null. */
static inline bool tm_is_null(const tm_column *column, uint32_t row) {
    if (column->field->type == TM_NULL) return true;
    return column->validity && !(column->validity[row >> 3] >> (row & 7) & 1);
}

/* The values of a column side by side, for loops over whole columns: tm_values_f64(column)[row]. The value at a row:
 * tm_get_f64(column, row). What stands where a value is null has no meaning. */
#define TM__FIXED(name, ctype, condition)                                                                                \
    static inline const ctype *tm_values_##name(const tm_column *column) {                                               \
        uint8_t type = column->field->type;                                                                              \
        (void)type;                                                                                                      \
        TM__FITS(column->field, condition);                                                                              \
        return (const ctype *)column->values;                                                                            \
    }                                                                                                                    \
    static inline ctype tm_get_##name(const tm_column *column, uint32_t row) { return tm_values_##name(column)[row]; }
TM__FIXED(i8, int8_t, type == TM_INT8)
TM__FIXED(i16, int16_t, type == TM_INT16)
TM__FIXED(i32, int32_t, type == TM_INT32)
TM__FIXED(i64, int64_t, type == TM_INT64)
TM__FIXED(u8, uint8_t, type == TM_UINT8)
TM__FIXED(u16, uint16_t, type == TM_UINT16)
TM__FIXED(u32, uint32_t, type == TM_UINT32)
TM__FIXED(u64, uint64_t, type == TM_UINT64)
TM__FIXED(f32, float, type == TM_FLOAT32)
TM__FIXED(f64, double, type == TM_FLOAT64)
/* Days since 1970-01-01; a timestamp or a duration, in its unit; a decimal's digits. */
TM__FIXED(date, int32_t, type == TM_DATE32)
TM__FIXED(time, int64_t, type == TM_TIMESTAMP || type == TM_DURATION)
TM__FIXED(decimal, tm_i128, type == TM_DECIMAL)

static inline bool tm_get_bool(const tm_column *column, uint32_t row) {
    TM__FITS(column->field, column->field->type == TM_BOOLEAN);
    return ((const uint8_t *)column->values)[row >> 3] >> (row & 7) & 1;
}

/* Text or bytes, in place. */
static inline tm_text tm_get_text(const tm_column *column, uint32_t row) {
    const char *bytes = (const char *)column->values;
    if (column->field->type == TM_FIXED) {
        uint32_t width = column->field->of.width;
        return tm_bytes(bytes + (size_t)row * width, width);
    }
    TM__FITS(column->field, column->field->type == TM_UTF8 || column->field->type == TM_BINARY);
    return tm_bytes(bytes + column->offsets[row], (size_t)(column->offsets[row + 1] - column->offsets[row]));
}

/* Any number as a double: rounded where it has more digits. */
double tm_get_number(const tm_column *column, uint32_t row);

/* The items of a list, or the entries of a map: rows `start` to `end` of tm_items(column). */
typedef struct tm_range {
    uint32_t start, end;
} tm_range;
static inline tm_range tm_get_list(const tm_column *column, uint32_t row) {
    TM__FITS(column->field, column->field->type == TM_LIST || column->field->type == TM_MAP);
    tm_range range = { (uint32_t)column->offsets[row], (uint32_t)column->offsets[row + 1] };
    return range;
}
static inline const tm_column *tm_items(const tm_column *list) { return &list->children[0]; }
static inline const tm_column *tm_map_keys(const tm_column *map) { return &map->children[0].children[0]; }
static inline const tm_column *tm_map_values(const tm_column *map) { return &map->children[0].children[1]; }
/* A field of a struct: its value at a row is the struct's. */
static inline const tm_column *tm_child(const tm_column *column, uint32_t index) { return &column->children[index]; }

/* The columns of the first input, of the keys, of the state. */
static inline const tm_column *tm_in(const tm_call *c, uint32_t column) { return &c->in[0].columns[column]; }
static inline const tm_column *tm_in_of(const tm_call *c, uint32_t input, uint32_t column) {
    return &c->in[input].columns[column];
}
static inline const tm_column *tm_keys(const tm_call *c, uint32_t column) { return &c->keys.columns[column]; }
static inline const tm_column *tm_state(const tm_call *c, uint32_t column) { return &c->state.columns[column]; }

/* Values where the cursor stands: tm_row_f64(c, amount), tm_key_text(c, city), tm_state_i64(c, total). */
#define TM__HERE(name, ctype)                                                                                            \
    static inline ctype tm_row_##name(const tm_call *c, uint32_t column) { return tm_get_##name(tm_in(c, column), c->row); } \
    static inline ctype tm_key_##name(const tm_call *c, uint32_t column) { return tm_get_##name(tm_keys(c, column), c->group); } \
    static inline ctype tm_state_##name(const tm_call *c, uint32_t column) {                                             \
        return tm_get_##name(tm_state(c, column), c->state_row);                                                         \
    }
TM__HERE(bool, bool)
TM__HERE(i8, int8_t)
TM__HERE(i16, int16_t)
TM__HERE(i32, int32_t)
TM__HERE(i64, int64_t)
TM__HERE(u8, uint8_t)
TM__HERE(u16, uint16_t)
TM__HERE(u32, uint32_t)
TM__HERE(u64, uint64_t)
TM__HERE(f32, float)
TM__HERE(f64, double)
TM__HERE(date, int32_t)
TM__HERE(time, int64_t)
TM__HERE(decimal, tm_i128)
TM__HERE(text, tm_text)
TM__HERE(number, double)
TM__HERE(list, tm_range)
static inline bool tm_row_is_null(const tm_call *c, uint32_t column) { return tm_is_null(tm_in(c, column), c->row); }
static inline bool tm_key_is_null(const tm_call *c, uint32_t column) { return tm_is_null(tm_keys(c, column), c->group); }
static inline bool tm_state_is_null(const tm_call *c, uint32_t column) { return tm_is_null(tm_state(c, column), c->state_row); }

/* ---------------------------------------------------------------------------------------------------------- builders -- */

/* The columns that are being built. */
static inline tm_builder *tm_out(tm_call *c, uint32_t column) { return &c->out.columns[column]; }
static inline tm_builder *tm_new_state(tm_call *c, uint32_t column) { return &c->new_state.columns[column]; }

/* Room for `size` more bytes. */
void tm__grow(tm_buffer *buffer, size_t size);
void tm__put_validity(tm_builder *builder, bool valid);
static inline uint8_t *tm__room(tm_buffer *buffer, size_t size) {
    if (__builtin_expect(buffer->capacity - buffer->size < size, 0)) tm__grow(buffer, size);
    return buffer->data + buffer->size;
}
/* One more value has been appended. */
static inline void tm__put(tm_builder *builder) {
    if (__builtin_expect(builder->null_count > 0, 0)) tm__put_validity(builder, true);
    builder->length++;
}

/* Appends a value. */
#define TM__PUT(name, ctype, condition)                                                                                  \
    static inline void tm_put_##name(tm_builder *builder, ctype value) {                                                 \
        uint8_t type = builder->field->type;                                                                             \
        (void)type;                                                                                                      \
        TM__FITS(builder->field, condition);                                                                             \
        *(ctype *)(void *)tm__room(&builder->values, sizeof(ctype)) = value;                                             \
        builder->values.size += sizeof(ctype);                                                                           \
        tm__put(builder);                                                                                                \
    }
TM__PUT(i8, int8_t, type == TM_INT8)
TM__PUT(i16, int16_t, type == TM_INT16)
TM__PUT(i32, int32_t, type == TM_INT32)
TM__PUT(i64, int64_t, type == TM_INT64)
TM__PUT(u8, uint8_t, type == TM_UINT8)
TM__PUT(u16, uint16_t, type == TM_UINT16)
TM__PUT(u32, uint32_t, type == TM_UINT32)
TM__PUT(u64, uint64_t, type == TM_UINT64)
TM__PUT(f32, float, type == TM_FLOAT32)
TM__PUT(f64, double, type == TM_FLOAT64)
TM__PUT(date, int32_t, type == TM_DATE32)
TM__PUT(time, int64_t, type == TM_TIMESTAMP || type == TM_DURATION)
TM__PUT(decimal, tm_i128, type == TM_DECIMAL)

static inline void tm_put_bool(tm_builder *builder, bool value) {
    TM__FITS(builder->field, builder->field->type == TM_BOOLEAN);
    if (builder->length % 8 == 0) {
        *tm__room(&builder->values, 1) = 0;
        builder->values.size++;
    }
    builder->values.data[builder->values.size - 1] |= (uint8_t)(value << builder->length % 8);
    tm__put(builder);
}

/* Copies up to 16 bytes without a call: most words are shorter. There is room for 16. */
static inline void tm__copy_short(uint8_t *to, const uint8_t *from, size_t size) {
    uint64_t first, last;
    uint32_t first4, last4;
    if (size >= 8) {
        __builtin_memcpy(&first, from, 8);
        __builtin_memcpy(&last, from + size - 8, 8);
        __builtin_memcpy(to, &first, 8);
        __builtin_memcpy(to + size - 8, &last, 8);
    } else if (size >= 4) {
        __builtin_memcpy(&first4, from, 4);
        __builtin_memcpy(&last4, from + size - 4, 4);
        __builtin_memcpy(to, &first4, 4);
        __builtin_memcpy(to + size - 4, &last4, 4);
    } else if (size) {
        to[0] = from[0];
        to[size / 2] = from[size / 2];
        to[size - 1] = from[size - 1];
    }
}

/* Appends text or bytes, which are copied. A fixed(n) takes n bytes. */
static inline void tm_put_text(tm_builder *builder, tm_text value) {
    uint8_t type = builder->field->type;
    TM__FITS(builder->field, type == TM_UTF8 || type == TM_BINARY || (type == TM_FIXED && value.size == builder->field->of.width));
    uint8_t *to = tm__room(&builder->values, value.size < 16 ? 16 : value.size);
    if (value.size <= 16) tm__copy_short(to, (const uint8_t *)value.data, value.size);
    else __builtin_memcpy(to, value.data, value.size);
    builder->values.size += value.size;
    if (type != TM_FIXED) {
        *(int32_t *)(void *)tm__room(&builder->offsets, 4) = (int32_t)builder->values.size;
        builder->offsets.size += 4;
    }
    tm__put(builder);
}
static inline void tm_put_str(tm_builder *builder, const char *value) { tm_put_text(builder, tm_str(value)); }

/* Appends a null, of whatever type. Its column has to be declared with `?`. */
void tm_put_null(tm_builder *builder);

/* Lists: append items to tm_item(), then call tm_put_list(). */
static inline tm_builder *tm_item(tm_builder *list) { return &list->children[0]; }
void tm_put_list(tm_builder *builder);
/* Structs: append a value to each tm_part(), then call tm_put_struct(). */
static inline tm_builder *tm_part(tm_builder *builder, uint32_t index) { return &builder->children[index]; }
void tm_put_struct(tm_builder *builder);
/* Maps: append a key and a value and call tm_put_entry(), for each; then tm_put_map(). */
static inline tm_builder *tm_map_key(tm_builder *map) { return &map->children[0].children[0]; }
static inline tm_builder *tm_map_value(tm_builder *map) { return &map->children[0].children[1]; }
void tm_put_entry(tm_builder *map);
static inline void tm_put_map(tm_builder *map) { tm_put_list(map); }

/* Appends the value of a column of the same type, null or not. */
void tm_put_value(tm_builder *builder, const tm_column *column, uint32_t row);

static inline void tm_emit(tm_call *c) {
    c->out.n_rows++;
    if (c->keeps_origin) {
        *(uint32_t *)(void *)tm__room(&c->origin, 4) = c->role ? c->group : c->row;
        c->origin.size += 4;
    }
}

/* -------------------------------------------------------------------------------------------------------------- roles -- */

enum { TM__TRANSFORM, TM__REDUCER, TM__AGGREGATOR, TM__GROUPER, TM__UPDATER };
/* Which function of a role: they read and write different columns. */
enum { TM__ROWS, TM__INVERT, TM__MERGE, TM__FINISH };

/* The parts of the contract that cross as they are. */
typedef struct tm__node {
    uint32_t length, null_count;
} tm__node;
typedef struct tm__batch {
    uint32_t rows;
    const tm__node *nodes;
    size_t n_nodes;
    const tm_text *buffers;
    size_t n_buffers;
} tm__batch;
typedef struct tm__ends {
    const uint32_t *ends;
    size_t n;
} tm__ends;
typedef struct tm__grouped {
    tm__batch rows;
    tm__ends ends;
} tm__grouped;
typedef struct tm__of {
    uint64_t batch_id;
    int64_t batch_time_us;
    uint32_t partition, attempt;
    uint64_t first_row;
    uint8_t has_watermark;
    int64_t watermark_us;
} tm__of;
typedef struct tm__update {
    tm__batch keys, values;
    tm__ends ends;
    tm__batch state;
    tm_text has_state, timed_out;
} tm__update;

typedef void tm_open_function(tm_open *);
typedef void tm_call_function(tm_call *);

void *tm__open(int role, bool invertible, tm_open_function *function, tm_open *o);
void *tm__call(int role, int step, tm_call_function *function, const tm__of *of, const tm__batch *keys,
               const tm__grouped *inputs, size_t n_inputs, const tm__update *update);
void tm__end(void);

#ifdef __wasm__
#define TM__EXPORT(name) __attribute__((export_name(name)))
#else
#define TM__EXPORT(name) __attribute__((unused))
#endif
#ifdef __cplusplus
#define TM__C extern "C"
#else
#define TM__C
#endif
#define TM__NAME(role, function) "tidemill:operator/" #role "@" TIDEMILL_CONTRACT "#" #function
#define TM__POST(role, function)                                                                                         \
    TM__C TM__EXPORT("cabi_post_" TM__NAME(role, function)) void tm__##role##_##function##_post(void *result);           \
    void tm__##role##_##function##_post(void *result) { (void)result; tm__end(); }

/* `open` of a role: a step, and whatever schemas the role has. */
#define TM__STEP const char *job, size_t job_n, const char *step, size_t step_n, uint32_t partitions, const char *config, size_t config_n
#define TM__OPEN(role, number, invertible, function, set, ...)                                                           \
    TM__C TM__EXPORT(TM__NAME(role, open)) void *tm__##role##_open(TM__STEP, __VA_ARGS__);                               \
    void *tm__##role##_open(TM__STEP, __VA_ARGS__) {                                                                     \
        tm_open *o = (tm_open *)tm_keep(sizeof(tm_open));                                                                \
        tm_schema *inputs = (tm_schema *)tm_keep(sizeof(tm_schema));                                                     \
        o->job = tm_bytes(job, job_n);                                                                                   \
        o->step = tm_bytes(step, step_n);                                                                                \
        o->partitions = partitions;                                                                                      \
        o->config = tm_bytes(config, config_n);                                                                          \
        o->inputs = inputs;                                                                                              \
        o->n_inputs = 1;                                                                                                 \
        set                                                                                                              \
        return tm__open(number, invertible, function, o);                                                                \
    }                                                                                                                    \
    TM__POST(role, open)
#define TM__SET_ONE inputs->fields = fields; inputs->n_fields = fields_n;
#define TM__SET_INPUTS o->inputs = fields; o->n_inputs = (uint32_t)fields_n; (void)inputs;
#define TM__SET_KEYS o->keys.fields = keys; o->keys.n_fields = keys_n;

/* A call whose arguments cross one by one. */
#define TM__OF                                                                                                           \
    uint64_t batch_id, int64_t batch_time_us, uint32_t partition, uint32_t attempt, uint64_t first_row,                  \
        uint32_t has_watermark, int64_t watermark_us
#define TM__OF_SET                                                                                                       \
    tm__of of = { batch_id, batch_time_us, partition, attempt, first_row, (uint8_t)has_watermark, watermark_us };
#define TM__BATCH uint32_t rows, const tm__node *nodes, size_t n_nodes, const tm_text *buffers, size_t n_buffers
#define TM__BATCH_SET { rows, nodes, n_nodes, buffers, n_buffers }
#define TM__CALL_ROWS(role, number, name, step, function)                                                                \
    TM__C TM__EXPORT(TM__NAME(role, name)) void *tm__##role##_##name(TM__OF, TM__BATCH);                                 \
    void *tm__##role##_##name(TM__OF, TM__BATCH) {                                                                       \
        TM__OF_SET tm__grouped input = { TM__BATCH_SET, { NULL, 0 } };                                                   \
        return tm__call(number, step, function, &of, NULL, &input, 1, NULL);                                             \
    }                                                                                                                    \
    TM__POST(role, name)
#define TM__CALL_GROUPS(role, number, name, step, function)                                                              \
    TM__C TM__EXPORT(TM__NAME(role, name)) void *tm__##role##_##name(TM__OF, TM__BATCH, const uint32_t *ends, size_t n_ends); \
    void *tm__##role##_##name(TM__OF, TM__BATCH, const uint32_t *ends, size_t n_ends) {                                  \
        TM__OF_SET tm__grouped input = { TM__BATCH_SET, { ends, n_ends } };                                              \
        return tm__call(number, step, function, &of, NULL, &input, 1, NULL);                                             \
    }                                                                                                                    \
    TM__POST(role, name)
/* Arguments of which there are too many cross in memory. */
typedef struct tm__invert_arguments {
    tm__of of;
    tm__batch whole, part;
} tm__invert_arguments;
typedef struct tm__update_arguments {
    tm__of of;
    tm__update input;
} tm__update_arguments;
#define TM__CALL_INVERT(function)                                                                                        \
    TM__C TM__EXPORT(TM__NAME(reducer, invert)) void *tm__reducer_invert(const tm__invert_arguments *a);                 \
    void *tm__reducer_invert(const tm__invert_arguments *a) {                                                            \
        tm__grouped inputs[2] = { { a->whole, { NULL, 0 } }, { a->part, { NULL, 0 } } };                                 \
        return tm__call(TM__REDUCER, TM__INVERT, function, &a->of, NULL, inputs, 2, NULL);                               \
    }                                                                                                                    \
    TM__POST(reducer, invert)
void tm__no_inverse(tm_call *c);

#define TIDEMILL_TRANSFORM(open_function, process_function)                                                              \
    TM__OPEN(transform, TM__TRANSFORM, false, open_function, TM__SET_ONE, const tm_field *fields, size_t fields_n)       \
    TM__CALL_ROWS(transform, TM__TRANSFORM, process, TM__ROWS, process_function)

/* In `invert` the inputs are the whole, tm_in(), and the part, tm_in_of(c, 1, column): row by row, whole minus part. */
#define TIDEMILL_REDUCER_INVERTIBLE(open_function, reduce_function, invert_function)                                     \
    TM__OPEN(reducer, TM__REDUCER, true, open_function, TM__SET_ONE, const tm_field *fields, size_t fields_n)            \
    TM__CALL_GROUPS(reducer, TM__REDUCER, reduce, TM__ROWS, reduce_function)                                             \
    TM__CALL_INVERT(invert_function)
#define TIDEMILL_REDUCER(open_function, reduce_function)                                                                 \
    TM__OPEN(reducer, TM__REDUCER, false, open_function, TM__SET_ONE, const tm_field *fields, size_t fields_n)           \
    TM__CALL_GROUPS(reducer, TM__REDUCER, reduce, TM__ROWS, reduce_function)                                             \
    TM__CALL_INVERT(tm__no_inverse)

/* `accumulate` reads the columns of tm_read() and gives those of tm_keep_state(), one row a group; `merge` reads and gives
 * the latter, one row a group; `finish` reads them and gives the columns of tm_write(), one row a row. */
#define TIDEMILL_AGGREGATOR(open_function, accumulate_function, merge_function, finish_function)                         \
    TM__OPEN(aggregator, TM__AGGREGATOR, false, open_function, TM__SET_ONE, const tm_field *fields, size_t fields_n)     \
    TM__CALL_GROUPS(aggregator, TM__AGGREGATOR, accumulate, TM__ROWS, accumulate_function)                               \
    TM__CALL_GROUPS(aggregator, TM__AGGREGATOR, merge, TM__MERGE, merge_function)                                        \
    TM__CALL_ROWS(aggregator, TM__AGGREGATOR, finish, TM__FINISH, finish_function)

#define TIDEMILL_GROUPER(open_function, process_function)                                                                \
    TM__OPEN(grouper, TM__GROUPER, false, open_function, TM__SET_KEYS TM__SET_INPUTS,                                    \
             const tm_field *keys, size_t keys_n, const tm_schema *fields, size_t fields_n)                              \
    TM__C TM__EXPORT(TM__NAME(grouper, process)) void *tm__grouper_process(TM__OF, TM__BATCH, const tm__grouped *inputs, size_t n_inputs); \
    void *tm__grouper_process(TM__OF, TM__BATCH, const tm__grouped *inputs, size_t n_inputs) {                           \
        TM__OF_SET tm__batch keys = TM__BATCH_SET;                                                                       \
        return tm__call(TM__GROUPER, TM__ROWS, process_function, &of, &keys, inputs, n_inputs, NULL);                    \
    }                                                                                                                    \
    TM__POST(grouper, process)

#define TIDEMILL_UPDATER(open_function, update_function)                                                                 \
    TM__OPEN(updater, TM__UPDATER, false, open_function, TM__SET_KEYS TM__SET_ONE,                                       \
             const tm_field *keys, size_t keys_n, const tm_field *fields, size_t fields_n)                               \
    TM__C TM__EXPORT(TM__NAME(updater, update)) void *tm__updater_update(const tm__update_arguments *a);                 \
    void *tm__updater_update(const tm__update_arguments *a) {                                                            \
        tm__grouped input = { a->input.values, a->input.ends };                                                          \
        return tm__call(TM__UPDATER, TM__ROWS, update_function, &a->of, &a->input.keys, &input, 1, &a->input);           \
    }                                                                                                                    \
    TM__POST(updater, update)

#ifdef __cplusplus
}
#endif

/* --------------------------------------------------------------------------------------------------- implementation -- */

#ifdef TIDEMILL_IMPLEMENTATION

#ifndef __wasm__
#include <stdio.h>
#include <stdlib.h>
#endif

/* What every instance has one of. */
static tm_open *tm__opened;
static tm_call *tm__current;
static tm__fields tm__values;            /* a reducer's columns */
static tm_table tm__out_tables[2], tm__state_table;

/* ---- memory: chunks that are used again and again ---- */

typedef struct tm__chunk {
    struct tm__chunk *next;
    size_t size;                         /* with this head */
} tm__chunk;
typedef struct tm__arena {
    tm__chunk *first, *chunk;
    uint8_t *at, *end;
    size_t total;
    void *given_back[32];                /* blocks that builders grew out of, by the power of two they have room for */
} tm__arena;
static tm__arena tm__scratch, tm__kept;

#define TM__PAGE 65536u

static tm__chunk *tm__new_chunk(tm__arena *arena, size_t size) {
    size_t more = arena->total / 4;
    size += sizeof(tm__chunk) + 32;
    if (size < more) size = more;
    size = (size + TM__PAGE - 1) / TM__PAGE * TM__PAGE;
#ifdef __wasm__
    size_t page = __builtin_wasm_memory_grow(0, size / TM__PAGE);
    if (page == (size_t)-1) __builtin_trap(); /* the host says which limit it is */
    tm__chunk *chunk = (tm__chunk *)(page * TM__PAGE);
    arena->total += size;
    if (arena->chunk && !arena->chunk->next && (uint8_t *)chunk == arena->end) {
        arena->chunk->size += size;
        arena->end += size;
        return arena->chunk;
    }
#else
    tm__chunk *chunk = (tm__chunk *)malloc(size);
    if (!chunk) abort();
    arena->total += size;
#endif
    chunk->next = NULL;
    chunk->size = size;
    if (arena->chunk) {
        chunk->next = arena->chunk->next;
        arena->chunk->next = chunk;
    } else {
        arena->first = chunk;
    }
    return chunk;
}

static void tm__use_chunk(tm__arena *arena, tm__chunk *chunk) {
    arena->chunk = chunk;
    arena->at = (uint8_t *)(((uintptr_t)(chunk + 1) + 15) & ~(uintptr_t)15);
    arena->end = (uint8_t *)chunk + chunk->size;
}

static void *tm__get(tm__arena *arena, size_t size) {
    size = (size + 15) & ~(size_t)15;
    /* There are always 16 bytes behind what is given out: see tm_next_word(). */
    while ((size_t)(arena->end - arena->at) < size + 16) {
        tm__chunk *next = arena->chunk ? arena->chunk->next : arena->first;
        if (next) tm__use_chunk(arena, next);
        else {
            tm__chunk *chunk = tm__new_chunk(arena, size);
            if (chunk != arena->chunk) tm__use_chunk(arena, chunk);
        }
    }
    void *got = arena->at;
    arena->at += size;
    return got;
}

/* Frees all that a call has used. */
void tm__end(void) {
    if (tm__scratch.first) tm__use_chunk(&tm__scratch, tm__scratch.first);
    __builtin_memset(tm__scratch.given_back, 0, sizeof tm__scratch.given_back);
}

void *tm_alloc(size_t size) { return __builtin_memset(tm__get(&tm__scratch, size), 0, size); }
void *tm_keep(size_t size) { return __builtin_memset(tm__get(&tm__kept, size), 0, size); }

/* Where the host puts what a call gets: at multiples of 16, so that it can be read as it is. */
TM__EXPORT("cabi_realloc") void *tm__cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)align;
    if (!size) return (void *)16;
    void *got = tm__get(&tm__scratch, size);
    if (old_size) __builtin_memcpy(got, old, old_size < size ? old_size : size);
    return got;
}
/* Where the adapter of a libc's system calls keeps its own, for good. */
TM__EXPORT("cabi_realloc_adapter") void *tm__cabi_realloc_adapter(void *old, size_t old_size, size_t align, size_t size) {
    uint8_t *got = (uint8_t *)tm__get(&tm__kept, size + align);
    got = (uint8_t *)(((uintptr_t)got + align - 1) & ~(uintptr_t)(align - 1));
    if (old_size) __builtin_memcpy(got, old, old_size < size ? old_size : size);
    return got;
}

static unsigned tm__class(size_t size) {
    unsigned power = 5;
    while (((size_t)1 << power) < size) power++;
    return power;
}

void tm__grow(tm_buffer *buffer, size_t size) {
    size_t want = buffer->size + size;
    if (!buffer->capacity && want < buffer->hint) want = buffer->hint;
    if (want < buffer->capacity * 2) want = buffer->capacity * 2;
    /* Where nothing has been allocated since, it grows where it stands. */
    size_t held = (buffer->capacity + 15) & ~(size_t)15;
    if (buffer->capacity && buffer->data + held == tm__scratch.at && (size_t)(tm__scratch.end - buffer->data) >= want + 32) {
        buffer->capacity = (want + 15) & ~(size_t)15;
        tm__scratch.at = buffer->data + buffer->capacity;
        return;
    }
    unsigned power = tm__class(want);
    uint8_t *data = NULL;
    if (power < 32 && tm__scratch.given_back[power]) {
        data = (uint8_t *)tm__scratch.given_back[power];
        __builtin_memcpy(&tm__scratch.given_back[power], data, sizeof(void *));
        want = (size_t)1 << power;
    } else {
        want = (want + 15) & ~(size_t)15;
        data = (uint8_t *)tm__get(&tm__scratch, want);
    }
    if (buffer->size) __builtin_memcpy(data, buffer->data, buffer->size);
    if (buffer->capacity >= 32) {
        /* The block is good for the power of two that fits into it. */
        unsigned fits = tm__class(buffer->capacity);
        if (((size_t)1 << fits) > buffer->capacity) fits--;
        __builtin_memcpy(buffer->data, &tm__scratch.given_back[fits], sizeof(void *));
        tm__scratch.given_back[fits] = buffer->data;
    }
    buffer->data = data;
    buffer->capacity = want;
}

static void tm__append(tm_buffer *buffer, const void *bytes, size_t size) {
    uint8_t *to = tm__room(buffer, size);
    if (size) __builtin_memcpy(to, bytes, size);
    buffer->size += size;
}

static tm_text tm__keep_text(tm_text text) {
    char *to = (char *)tm__get(&tm__kept, text.size);
    if (text.size) __builtin_memcpy(to, text.data, text.size);
    return tm_bytes(to, text.size);
}

/* ---- text ---- */

bool tm_same(tm_text a, tm_text b) { return a.size == b.size && !tm_compare(a, b); }

int tm_compare(tm_text a, tm_text b) {
    for (size_t i = 0; i < a.size && i < b.size; i++) {
        if (a.data[i] != b.data[i]) return (uint8_t)a.data[i] < (uint8_t)b.data[i] ? -1 : 1;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

static inline bool tm__is_white(uint8_t byte) {
    return byte == ' ' || (byte - 9u < 5u && byte != 11);
}

/* One bit for each of the 16 bytes at `at` that is white space. */
static inline uint32_t tm__white_16(const uint8_t *at) {
#ifdef __wasm_simd128__
    typedef uint8_t bytes_16 __attribute__((vector_size(16)));
    bytes_16 bytes;
    __builtin_memcpy(&bytes, at, 16);
    bytes_16 white = (bytes_16)(bytes == 0x20) | ((bytes_16)(bytes - 9 < 5) & (bytes_16)(bytes != 0x0B));
    typedef int8_t signed_16 __attribute__((vector_size(16)));
    return (uint32_t)__builtin_wasm_bitmask_i8x16((signed_16)white);
#else
    /* Eight bytes in one number, each compared by an addition that carries no further (Hacker's Delight, 6-1). */
    const uint64_t each = 0x0101010101010101u;
    uint32_t bits = 0;
    for (int half = 0; half < 2; half++) {
        uint64_t bytes;
        __builtin_memcpy(&bytes, at + half * 8, 8);
        uint64_t low = bytes & each * 0x7F;
        uint64_t controls = (low + each * (0x80 - 9)) & ~(low + each * (0x80 - 14)) & ((low ^ each * 0x0B) + each * 0x7F);
        uint64_t white = (controls | ~((low ^ each * 0x20) + each * 0x7F)) & ~bytes & each * 0x80;
        bits |= (uint32_t)((white >> 7) * 0x0102040810204080u >> 56) << half * 8;
    }
    return bits;
#endif
}

bool tm_next_word(tm_text *rest, tm_text *word) {
    const uint8_t *at = (const uint8_t *)rest->data, *end = at + rest->size;
    while (at < end && tm__is_white(*at)) at++;
    const uint8_t *start = at;
    while (at < end) {
        ptrdiff_t left = end - at;
#ifndef __wasm__
        if (left < 16) {
            while (at < end && !tm__is_white(*at)) at++;
            break;
        }
#endif
        /* In WebAssembly it looks beyond the end, which the arena has room for, and takes what is there for white space. */
        uint32_t white = tm__white_16(at) | (left < 16 ? 0xFFFFu << left : 0x10000u);
        at += __builtin_ctz(white);
        if (white != 0x10000u) break;
    }
    *word = tm_bytes(start, (size_t)(at - start));
    *rest = tm_bytes(at, (size_t)(end - at));
    return at != start;
}

static void tm__append_text(tm_buffer *to, tm_text text) { tm__append(to, text.data, text.size); }

static void tm__append_number(tm_buffer *to, uint64_t number, unsigned base, unsigned width) {
    char digits[32];
    unsigned n = 0;
    do digits[31 - n++] = "0123456789abcdef"[number % base];
    while ((number /= base) || n < width);
    tm__append(to, digits + 32 - n, n);
}

static void tm__append_double(tm_buffer *to, double number, int decimals, bool trim) {
    if (number != number) { tm__append(to, "NaN", 3); return; }
    if (number < 0) {
        tm__append(to, "-", 1);
        number = -number;
    }
    if (number > 1.7976931348623157e308) { tm__append(to, "inf", 3); return; }
    int exponent = 0;
    if (number >= 1e18 || (trim && number > 0 && number < 1e-5)) {
        while (number >= 10) number /= 10, exponent++;
        while (number < 1) number *= 10, exponent--;
    }
    double unit = 1;
    for (int i = 0; i < decimals; i++) unit *= 10;
    uint64_t whole = (uint64_t)number;
    uint64_t part = (uint64_t)((number - (double)whole) * unit + 0.5);
    if ((double)part >= unit) whole++, part = 0;
    tm__append_number(to, whole, 10, 1);
    if (trim) {
        while (decimals && part % 10 == 0) part /= 10, decimals--;
    }
    if (decimals) {
        tm__append(to, ".", 1);
        tm__append_number(to, part, 10, (unsigned)decimals);
    }
    if (exponent) {
        tm__append(to, exponent < 0 ? "e-" : "e", exponent < 0 ? 2 : 1);
        tm__append_number(to, (uint64_t)(exponent < 0 ? -exponent : exponent), 10, 1);
    }
}

static tm_text tm__format(const char *format, va_list arguments) {
    tm_buffer text = { NULL, 0, 0, 64 };
    for (; *format; format++) {
        if (*format != '%') {
            tm__append(&text, format, 1);
            continue;
        }
        int decimals = -1, n_long = 0;
        if (*++format == '.') {
            decimals = 0;
            if (*++format == '*') decimals = va_arg(arguments, int), format++;
            else while (*format >= '0' && *format <= '9') decimals = decimals * 10 + (*format++ - '0');
        }
        while (*format == 'l') n_long++, format++;
        if (*format == 'z') n_long = sizeof(size_t) > 4 ? 2 : 0, format++;
        switch (*format) {
        case 's': {
            const char *from = va_arg(arguments, const char *);
            tm_text string = decimals < 0 ? tm_str(from) : tm_bytes(from, (size_t)decimals);
            tm__append_text(&text, string);
            break;
        }
        case 'c': {
            char byte = (char)va_arg(arguments, int);
            tm__append(&text, &byte, 1);
            break;
        }
        case 'd': case 'i': {
            int64_t number = n_long > 1 ? va_arg(arguments, long long) : n_long ? va_arg(arguments, long) : va_arg(arguments, int);
            if (number < 0) tm__append(&text, "-", 1);
            tm__append_number(&text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10, 1);
            break;
        }
        case 'u': case 'x': {
            uint64_t number = n_long > 1 ? va_arg(arguments, unsigned long long)
                              : n_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
            tm__append_number(&text, number, *format == 'x' ? 16 : 10, 1);
            break;
        }
        case 'f': tm__append_double(&text, va_arg(arguments, double), decimals < 0 ? 6 : decimals > 15 ? 15 : decimals, false); break;
        case 'g': tm__append_double(&text, va_arg(arguments, double), 6, true); break;
        case '\0': format--; break;
        default: tm__append(&text, format, 1);
        }
    }
    return tm_bytes(text.data, text.size);
}

tm_text tm_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tm_text text = tm__format(format, arguments);
    va_end(arguments);
    return text;
}

/* ---- types ---- */

static const char *const tm__type_names[] = {
    "null", "boolean", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "utf8",
    "binary", "fixed", "date32", "timestamp", "duration", "decimal", "list", "struct", "map",
};
static const char *const tm__unit_names[] = { "s", "ms", "us", "ns" };

size_t tm_field_size(const tm_field *field) {
    size_t n = 1;
    for (uint32_t i = 0; i < field->n_children; i++) n += tm_field_size(field + n);
    return n;
}

static bool tm__is_utc(const tm_field *field) {
    tm_text zone = field->of.timestamp.zone.name;
    return field->of.timestamp.zone.is_some &&
           (tm_same(zone, tm_str("UTC")) || tm_same(zone, tm_str("+00:00")) || tm_same(zone, tm_str("Z")));
}

static const tm_field *tm__append_type(tm_buffer *to, const tm_field *field) {
    tm__append_text(to, tm_str(tm__type_names[field->type]));
    const tm_field *next = field + 1;
    switch (field->type) {
    case TM_FIXED:
        tm__append_text(to, tm_format("(%u)", field->of.width));
        break;
    case TM_TIMESTAMP: {
        const char *unit = tm__unit_names[field->of.timestamp.unit];
        tm_text zone = field->of.timestamp.zone.is_some ? field->of.timestamp.zone.name : tm_str("no zone");
        if (!tm__is_utc(field)) tm__append_text(to, tm_format("(%s, %.*s)", unit, (int)zone.size, zone.data));
        else if (field->of.timestamp.unit != TM_MICROSECOND) tm__append_text(to, tm_format("(%s)", unit));
        break;
    }
    case TM_DURATION:
        if (field->of.unit != TM_MICROSECOND) tm__append_text(to, tm_format("(%s)", tm__unit_names[field->of.unit]));
        break;
    case TM_DECIMAL:
        tm__append_text(to, tm_format("(%d, %d)", field->of.decimal.precision, field->of.decimal.scale));
        break;
    case TM_LIST:
        tm__append(to, "<", 1);
        next = tm__append_type(to, next);
        tm__append(to, ">", 1);
        break;
    case TM_MAP:
    case TM_STRUCT: {
        bool is_map = field->type == TM_MAP;
        uint32_t n = is_map ? next++->n_children : field->n_children;
        tm__append(to, "<", 1);
        for (uint32_t i = 0; i < n; i++) {
            if (i) tm__append(to, ", ", 2);
            if (!is_map) tm__append_text(to, tm_format("%.*s: ", (int)next->name.size, next->name.data));
            next = tm__append_type(to, next);
        }
        tm__append(to, ">", 1);
    }
    }
    return next;
}

tm_text tm_type_text(const tm_field *field) {
    tm_buffer text = { NULL, 0, 0, 32 };
    tm__append_type(&text, field);
    return tm_bytes(text.data, text.size);
}

bool tm_is_number(const tm_field *field) {
    return (field->type >= TM_INT8 && field->type <= TM_FLOAT64) || field->type == TM_DECIMAL;
}

static uint32_t tm__add_field(tm__fields *to, tm_text name) {
    if (to->n_fields == to->capacity) {
        tm_field *old = to->fields;
        to->capacity = to->capacity ? to->capacity * 2 : 8;
        to->fields = (tm_field *)tm_keep(to->capacity * sizeof(tm_field));
        if (to->n_fields) __builtin_memcpy(to->fields, old, to->n_fields * sizeof(tm_field));
    }
    to->fields[to->n_fields].name = tm__keep_text(name);
    return to->n_fields++;
}

static void tm__skip_spaces(const char **at) { while (**at == ' ') ++*at; }

static bool tm__skip(const char **at, char what) {
    tm__skip_spaces(at);
    if (**at != what) return false;
    ++*at;
    return true;
}

static tm_text tm__parse_word(const char **at) {
    tm__skip_spaces(at);
    const char *start = *at;
    while (**at && **at != '(' && **at != ')' && **at != '<' && **at != '>' && **at != ',' && **at != ':' && **at != '?') ++*at;
    const char *end = *at;
    while (end > start && end[-1] == ' ') end--;
    return tm_bytes(start, (size_t)(end - start));
}

static bool tm__parse_int(tm_text text, int64_t *number) {
    bool minus = text.size && text.data[0] == '-';
    uint64_t sum = 0;
    if (text.size == minus) return false;
    for (size_t i = minus; i < text.size; i++) {
        unsigned digit = (uint8_t)text.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(sum, 10u, &sum) || __builtin_add_overflow(sum, digit, &sum)) return false;
    }
    if (sum > (uint64_t)INT64_MAX + minus) return false;
    *number = minus ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

static bool tm__parse_unit(tm_text text, uint8_t *unit) {
    for (uint8_t i = 0; i < 4; i++) {
        if (tm_same(text, tm_str(tm__unit_names[i]))) {
            *unit = i;
            return true;
        }
    }
    return false;
}

/* Appends the type at `at` as a field. */
static bool tm__parse_type(tm__fields *to, tm_text name, const char **at) {
    uint32_t index = tm__add_field(to, name);
    tm_text word = tm__parse_word(at);
    tm_field field = to->fields[index];
    field.type = 255;
    for (uint8_t i = 0; i <= TM_MAP; i++) {
        if (tm_same(word, tm_str(tm__type_names[i]))) field.type = i;
    }
    if (field.type == TM_TIMESTAMP) {
        field.of.timestamp.unit = TM_MICROSECOND;
        field.of.timestamp.zone.is_some = true;
        field.of.timestamp.zone.name = tm_str("UTC");
    } else if (field.type == TM_DURATION) {
        field.of.unit = TM_MICROSECOND;
    }
    int64_t first, second;
    bool needs_brackets = field.type == TM_FIXED || field.type == TM_DECIMAL;
    if (tm__skip(at, '(')) {
        word = tm__parse_word(at);
        if (field.type == TM_TIMESTAMP) {
            if (!tm__parse_unit(word, &field.of.timestamp.unit)) return false;
            if (tm__skip(at, ',')) {
                tm__skip_spaces(at);
                const char *start = *at;
                while (**at && **at != ')') ++*at;
                tm_text zone = tm__keep_text(tm_bytes(start, (size_t)(*at - start)));
                field.of.timestamp.zone.is_some = !tm_same(zone, tm_str("no zone"));
                field.of.timestamp.zone.name = zone;
            }
        } else if (field.type == TM_DURATION) {
            if (!tm__parse_unit(word, &field.of.unit)) return false;
        } else if (field.type == TM_FIXED) {
            if (!tm__parse_int(word, &first) || first < 0) return false;
            field.of.width = (uint32_t)first;
        } else if (field.type == TM_DECIMAL) {
            if (!tm__parse_int(word, &first) || !tm__skip(at, ',') || !tm__parse_int(tm__parse_word(at), &second)) return false;
            field.of.decimal.precision = (uint8_t)first;
            field.of.decimal.scale = (int8_t)second;
        } else {
            return false;
        }
        if (!tm__skip(at, ')')) return false;
    } else if (needs_brackets) {
        return false;
    }
    if (field.type == TM_LIST) {
        field.n_children = 1;
        if (!tm__skip(at, '<') || !tm__parse_type(to, tm_str("item"), at) || !tm__skip(at, '>')) return false;
    } else if (field.type == TM_MAP) {
        field.n_children = 1;
        uint32_t entries = tm__add_field(to, tm_str("entries"));
        if (!tm__skip(at, '<') || !tm__parse_type(to, tm_str("key"), at) || !tm__skip(at, ',') ||
            !tm__parse_type(to, tm_str("value"), at) || !tm__skip(at, '>')) return false;
        to->fields[entries].type = TM_STRUCT;
        to->fields[entries].n_children = 2;
    } else if (field.type == TM_STRUCT) {
        if (!tm__skip(at, '<')) return false;
        while (!tm__skip(at, '>')) {
            if (field.n_children && !tm__skip(at, ',')) return false;
            tm_text child = tm__parse_word(at);
            if (!child.size || !tm__skip(at, ':') || !tm__parse_type(to, child, at)) return false;
            field.n_children++;
        }
    }
    field.nullable = tm__skip(at, '?') || field.type == TM_NULL;
    to->fields[index] = field;
    return field.type != 255;
}

/* Whether a column is of the type that is wanted: nulls apart. */
static bool tm__fits(const tm_field *want, const tm_field *have) {
    if (want->type != have->type || want->n_children != have->n_children) return false;
    switch (want->type) {
    case TM_FIXED: if (want->of.width != have->of.width) return false; break;
    /* A zone says how an instant is shown: it is the same number. */
    case TM_TIMESTAMP: if (want->of.timestamp.unit != have->of.timestamp.unit) return false; break;
    case TM_DURATION: if (want->of.unit != have->of.unit) return false; break;
    case TM_DECIMAL:
        if (want->of.decimal.precision != have->of.decimal.precision || want->of.decimal.scale != have->of.decimal.scale) return false;
    }
    size_t in_want = 1, in_have = 1;
    for (uint32_t i = 0; i < want->n_children; i++) {
        if (want->type == TM_STRUCT && !tm_same(want[in_want].name, have[in_have].name)) return false;
        if (want->type == TM_MAP) {
            /* The entries' own names differ from writer to writer. */
            if (have[1].n_children != 2) return false;
            const tm_field *have_key = have + 2;
            return tm__fits(want + 2, have_key) && tm__fits(want + 2 + tm_field_size(want + 2), have_key + tm_field_size(have_key));
        }
        if (!tm__fits(want + in_want, have + in_have)) return false;
        in_want += tm_field_size(want + in_want);
        in_have += tm_field_size(have + in_have);
    }
    return true;
}

/* ---- open ---- */

#define TM__SAY(text, format)                                                                                            \
    va_list arguments;                                                                                                   \
    va_start(arguments, format);                                                                                         \
    tm_text text = tm__format(format, arguments);                                                                        \
    va_end(arguments)

static void tm__refuse(tm_open *o, uint8_t kind, tm_text reason) {
    if (o->refusal) return;
    o->refusal = kind;
    o->reason = reason;
}
void tm_refuse_config(tm_open *o, const char *format, ...) { TM__SAY(text, format); tm__refuse(o, 1, text); }
void tm_refuse_schema(tm_open *o, const char *format, ...) { TM__SAY(text, format); tm__refuse(o, 2, text); }
void tm_refuse(tm_open *o, const char *format, ...) { TM__SAY(text, format); tm__refuse(o, 3, text); }

static const tm_field *tm__find(tm_schema schema, tm_text name) {
    for (size_t i = 0; i < schema.n_fields; i += tm_field_size(schema.fields + i)) {
        if (tm_same(schema.fields[i].name, name)) return schema.fields + i;
    }
    return NULL;
}

/* A copy that stays when the call is over. */
static tm_field *tm__keep_field(const tm_field *field) {
    size_t n = tm_field_size(field);
    tm_field *kept = (tm_field *)tm_keep(n * sizeof(tm_field));
    for (size_t i = 0; i < n; i++) {
        kept[i] = field[i];
        kept[i].name = tm__keep_text(field[i].name);
        if (field[i].type == TM_TIMESTAMP && field[i].of.timestamp.zone.is_some) {
            kept[i].of.timestamp.zone.name = tm__keep_text(field[i].of.timestamp.zone.name);
        }
    }
    return kept;
}

static uint32_t tm__add_read(tm__reads *reads, const tm_field *field, bool nullable) {
    if ((reads->n & (reads->n - 1)) == 0) {
        tm__read *old = reads->columns;
        reads->columns = (tm__read *)tm_keep((reads->n ? reads->n * 2 : 1) * sizeof(tm__read));
        if (reads->n) __builtin_memcpy(reads->columns, old, reads->n * sizeof(tm__read));
    }
    reads->columns[reads->n].fields = tm__keep_field(field);
    reads->columns[reads->n].nullable = nullable;
    return reads->n++;
}

static uint32_t tm__read_of(tm_open *o, tm__reads *reads, tm_schema schema, tm_text name, const char *type, const char *where) {
    if (o->refusal) return 0;
    tm__fields want = { NULL, 0, 0, 0 };
    if (type) {
        const char *at = type;
        if (!tm__parse_type(&want, name, &at) || *at) {
            tm_refuse(o, "the operator reads column `%.*s` as `%s`, which is not a type", (int)name.size, name.data, type);
            return 0;
        }
    }
    tm_text expected = type ? tm_type_text(want.fields) : tm_str("a column");
    const tm_field *field = tm__find(schema, name);
    if (!field && o->keys.n_fields && schema.fields != o->keys.fields && tm__find(o->keys, name)) {
        tm_refuse_schema(o, "column `%.*s` is a key of the step, and is expected not to be one", (int)name.size, name.data);
        return 0;
    }
    if (!field) {
        tm_refuse_schema(o, "%scolumn `%.*s` is missing, %.*s is expected", where, (int)name.size, name.data, (int)expected.size, expected.data);
        return 0;
    }
    if (type && !tm__fits(want.fields, field)) {
        tm_text found = tm_type_text(field);
        tm_refuse_schema(o, "%scolumn `%.*s` is %.*s, %.*s is expected", where, (int)name.size, name.data, (int)found.size, found.data,
                         (int)expected.size, expected.data);
        return 0;
    }
    bool nullable = !type || want.fields[0].nullable;
    if (o->role == TM__REDUCER) {
        /* All columns come, in their order. */
        uint32_t column = 0;
        for (const tm_field *before = schema.fields; before != field; before += tm_field_size(before)) column++;
        reads->columns[column].nullable = nullable;
        reads->columns[column].is_named = true;
        return column;
    }
    for (uint32_t i = 0; i < reads->n; i++) {
        if (tm_same(reads->columns[i].fields->name, name)) {
            if (!reads->all) reads->columns[i].nullable = reads->columns[i].nullable && nullable;
            else reads->columns[i].nullable = nullable;
            return i;
        }
    }
    return tm__add_read(reads, field, nullable);
}

uint32_t tm_read(tm_open *o, const char *name, const char *type) { return tm_read_of(o, 0, tm_str(name), type); }

uint32_t tm_read_of(tm_open *o, uint32_t input, tm_text name, const char *type) {
    if (input >= o->n_inputs) {
        tm_refuse_schema(o, "the step has %u input%s, the operator reads from %u", o->n_inputs, o->n_inputs == 1 ? "" : "s", input + 1);
        return 0;
    }
    const char *where = o->n_inputs == 1 ? "" : input == 0 ? "in the first input, " : input == 1 ? "in the second input, " : "in another input, ";
    return tm__read_of(o, &o->reads[input], o->inputs[input], name, type, where);
}

void tm_read_all(tm_open *o, uint32_t input) {
    if (input >= o->n_inputs || o->reads[input].all) return;
    tm__reads *reads = &o->reads[input];
    reads->all = true;
    if (o->role == TM__REDUCER) {
        for (uint32_t i = 0; i < reads->n; i++) reads->columns[i].is_named = true;
        return;
    }
    reads->n = 0;
    tm_schema schema = o->inputs[input];
    for (size_t i = 0; i < schema.n_fields; i += tm_field_size(schema.fields + i)) tm__add_read(reads, schema.fields + i, true);
}

uint32_t tm_key(tm_open *o, const char *name, const char *type) {
    return tm__read_of(o, &o->key_reads, o->keys, tm_str(name), type, "among the keys, ");
}

const tm_field *tm_read_field(const tm_open *o, uint32_t column) { return o->reads[0].columns[column].fields; }

static uint32_t tm__declare(tm_open *o, tm__fields *to, tm_text name, const char *type) {
    if (o->refusal) return 0;
    const char *at = type;
    if (!tm__parse_type(to, name, &at) || *at) {
        tm_refuse(o, "the operator declares column `%.*s` as `%s`, which is not a type", (int)name.size, name.data, type);
        return 0;
    }
    return to->n_columns++;
}
uint32_t tm_write(tm_open *o, const char *name, const char *type) { return tm__declare(o, &o->writes, tm_str(name), type); }
uint32_t tm_keep_state(tm_open *o, const char *name, const char *type) { return tm__declare(o, &o->state, tm_str(name), type); }

static uint32_t tm__declare_like(tm__fields *to, tm_text name, const tm_field *field) {
    size_t n = tm_field_size(field);
    const tm_field *kept = tm__keep_field(field);
    for (size_t i = 0; i < n; i++) {
        uint32_t index = tm__add_field(to, i ? kept[i].name : name);
        tm_text own = to->fields[index].name;
        to->fields[index] = kept[i];
        to->fields[index].name = own;
    }
    return to->n_columns++;
}
uint32_t tm_write_like(tm_open *o, tm_text name, const tm_field *field) {
    return o->refusal ? 0 : tm__declare_like(&o->writes, name, field);
}

uint32_t tm_keep_state_like(tm_open *o, tm_text name, const tm_field *field) {
    return o->refusal ? 0 : tm__declare_like(&o->state, name, field);
}

void tm_carry_all(tm_open *o) { o->carries = 1; }
void tm_carry(tm_open *o, const char *name) {
    if (o->carries == 1) return;
    o->carries = 2;
    tm__add_field(&o->carried, tm_str(name));
}
void tm_tell_origin(tm_open *o) { o->tells_origin = true; }
void tm_call_every_key(tm_open *o) { o->calling = 1; }
void tm_use_batch_time(tm_open *o) { o->timeouts = 1; }
void tm_use_event_time(tm_open *o) { o->timeouts = 2; }

/* ---- configuration ---- */

static const char *tm__json_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* The end of the value at `at`. The host writes JSON that is well formed. */
static const char *tm__json_end(const char *at, const char *end) {
    int depth = 0;
    while (at < end) {
        char byte = *at++;
        if (byte == '"') {
            while (at < end && *at != '"') at += *at == '\\' ? 2 : 1;
            at++;
            if (!depth) return at;
        } else if (byte == '{' || byte == '[') {
            depth++;
        } else if (byte == '}' || byte == ']') {
            if (!--depth) return at;
        } else if (!depth) {
            while (at < end && *at != ',' && *at != '}' && *at != ']' && *at != ' ' && *at != '\n' && *at != '\t' && *at != '\r') at++;
            return at;
        }
    }
    return end;
}

bool tm_json_next(tm_json container, size_t *at, tm_text *key, tm_json *value) {
    const char *end = container.data + container.size;
    char kind = tm_json_kind(container);
    if (kind != '{' && kind != '[') return false;
    const char *next = tm__json_space(*at ? container.data + *at : tm__json_space(container.data, end) + 1, end);
    if (next < end && *next == ',') next = tm__json_space(next + 1, end);
    if (next >= end || *next == '}' || *next == ']') return false;
    if (kind == '{') {
        const char *stop = tm__json_end(next, end);
        if (key) tm_json_text(tm_bytes(next, (size_t)(stop - next)), key);
        next = tm__json_space(tm__json_space(stop, end) + 1, end);
    }
    const char *stop = tm__json_end(next, end);
    *value = tm_bytes(next, (size_t)(stop - next));
    *at = (size_t)(stop - container.data);
    return true;
}

tm_json tm_json_get(tm_json object, const char *key) {
    size_t at = 0;
    tm_text name;
    tm_json value;
    while (tm_json_kind(object) == '{' && tm_json_next(object, &at, &name, &value)) {
        if (tm_same(name, tm_str(key))) return value;
    }
    return tm_bytes(NULL, 0);
}

tm_json tm_json_item(tm_json array, uint32_t index) {
    size_t at = 0;
    tm_json value;
    while (tm_json_kind(array) == '[' && tm_json_next(array, &at, NULL, &value)) {
        if (!index--) return value;
    }
    return tm_bytes(NULL, 0);
}

char tm_json_kind(tm_json value) {
    const char *at = tm__json_space(value.data, value.data + value.size);
    if (at == value.data + value.size) return 0;
    return *at == '-' || (*at >= '0' && *at <= '9') ? '0' : *at;
}

bool tm_json_i64(tm_json value, int64_t *number) { return tm__parse_int(value, number); }

/* Exact for up to 15 digits and powers of ten up to 22, which is what people write; otherwise good to the last digit or two. */
bool tm_json_f64(tm_json value, double *number) {
    if (tm_json_kind(value) != '0') return false;
    double sum = 0, unit = 1;
    int exponent = 0;
    size_t i = value.data[0] == '-';
    for (bool behind = false; i < value.size && (value.data[i] == '.' || (value.data[i] >= '0' && value.data[i] <= '9')); i++) {
        if (value.data[i] == '.') behind = true;
        else {
            sum = sum * 10 + (value.data[i] - '0');
            exponent -= behind;
        }
    }
    if (i < value.size && (value.data[i] | 32) == 'e') {
        int64_t power = 0;
        if (++i < value.size && value.data[i] == '+') i++;
        if (!tm__parse_int(tm_bytes(value.data + i, value.size - i), &power) || power > 9999 || power < -9999) return false;
        exponent += (int)power;
    }
    for (int n = exponent < 0 ? -exponent : exponent; n > 0; n--) {
        unit *= 10;
        if (n % 22 == 1 || unit > 1e300) {
            sum = exponent < 0 ? sum / unit : sum * unit;
            unit = 1;
        }
    }
    *number = value.data[0] == '-' ? -sum : sum;
    return true;
}

static uint32_t tm__hex(const char *at) {
    uint32_t number = 0;
    for (int i = 0; i < 4; i++) number = number * 16 + (uint32_t)(at[i] <= '9' ? at[i] - '0' : (at[i] | 32) - 'a' + 10);
    return number;
}

bool tm_json_text(tm_json value, tm_text *text) {
    if (tm_json_kind(value) != '"') return false;
    const char *at = value.data + 1, *end = value.data + value.size - 1;
    char *to = (char *)tm__get(&tm__kept, value.size), *start = to;
    while (at < end) {
        char byte = *at++;
        if (byte == '\\' && at < end) {
            byte = *at++;
            switch (byte) {
            case 'b': byte = '\b'; break;
            case 'f': byte = '\f'; break;
            case 'n': byte = '\n'; break;
            case 'r': byte = '\r'; break;
            case 't': byte = '\t'; break;
            case 'u': {
                if (end - at < 4) return false;
                uint32_t point = tm__hex(at);
                at += 4;
                if (point >= 0xD800 && point < 0xDC00 && end - at >= 6) {
                    point = 0x10000 + ((point - 0xD800) << 10) + (tm__hex(at + 2) - 0xDC00);
                    at += 6;
                }
                if (point >= 0x10000) *to++ = (char)(0xF0 | point >> 18), *to++ = (char)(0x80 | (point >> 12 & 63));
                else if (point >= 0x800) *to++ = (char)(0xE0 | point >> 12);
                if (point >= 0x800) *to++ = (char)(0x80 | (point >> 6 & 63));
                else if (point >= 0x80) *to++ = (char)(0xC0 | point >> 6);
                byte = (char)(point >= 0x80 ? 0x80 | (point & 63) : point);
            }
            }
        }
        *to++ = byte;
    }
    *text = tm_bytes(start, (size_t)(to - start));
    return true;
}

bool tm_parse_duration_us(tm_text text, int64_t *us) {
    static const struct { const char *name; int64_t us; } units[] = {
        { "d", 86400000000 }, { "h", 3600000000 }, { "m", 60000000 }, { "s", 1000000 }, { "ms", 1000 }, { "us", 1 },
    };
    const char *at = text.data, *end = at + text.size;
    int64_t sum = 0;
    unsigned unit = 0;
    *us = 0;
    if (tm_same(text, tm_str("0"))) return true;
    if (at == end) return false;
    while (at < end) {
        const char *digits = at, *point = NULL;
        while (at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !point))) {
            if (*at == '.') point = at;
            at++;
        }
        const char *letters = at;
        while (at < end && *at >= 'a' && *at <= 'z') at++;
        while (unit < 6 && !tm_same(tm_bytes(letters, (size_t)(at - letters)), tm_str(units[unit].name))) unit++;
        int64_t whole, part;
        if (unit == 6 || !tm__parse_int(tm_bytes(digits, (size_t)((point ? point : letters) - digits)), &whole)) return false;
        if (__builtin_mul_overflow(whole, units[unit].us, &part) || __builtin_add_overflow(sum, part, &sum)) return false;
        if (point && point + 1 == letters) return false;
        int64_t place = units[unit].us;
        for (const char *digit = point ? point + 1 : letters; digit < letters; digit++) sum += (*digit - '0') * (place /= 10);
        unit++;
    }
    *us = sum;
    return true;
}

tm_json tm_config_json(tm_open *o, const char *key) {
    tm_text *old = o->config_keys;
    o->config_keys = (tm_text *)tm_keep((o->n_config_keys + 1) * sizeof(tm_text));
    if (old) __builtin_memcpy(o->config_keys, old, o->n_config_keys * sizeof(tm_text));
    o->config_keys[o->n_config_keys++] = tm_str(key);
    return tm_json_get(o->config, key);
}

static tm_json tm__config(tm_open *o, const char *key, bool required) {
    tm_json value = tm_config_json(o, key);
    if (tm_json_kind(value) == 'n') value.size = 0;
    if (!value.size && required) tm_refuse_config(o, "missing field `%s`", key);
    return value;
}

#define TM__CONFIG(name, ctype, blank, read, what)                                                                       \
    static ctype tm__config_##name(tm_open *o, const char *key, bool required, ctype otherwise) {                        \
        tm_json value = tm__config(o, key, required);                                                                    \
        ctype got = otherwise;                                                                                           \
        if (value.size && !(read)) {                                                                                     \
            tm_refuse_config(o, "`%s` is %.*s, and has to be " what, key, (int)value.size, value.data);                  \
            return otherwise;                                                                                            \
        }                                                                                                                \
        return got;                                                                                                      \
    }                                                                                                                    \
    ctype tm_config_##name(tm_open *o, const char *key) { ctype none = blank; return tm__config_##name(o, key, true, none); }
TM__CONFIG(f64, double, 0, tm_json_f64(value, &got), "a number")
TM__CONFIG(i64, int64_t, 0, tm_json_i64(value, &got), "a whole number")
TM__CONFIG(bool, bool, false, (got = tm_json_kind(value) == 't') || tm_json_kind(value) == 'f', "true or false")
TM__CONFIG(text, tm_text, tm_str(""), tm_json_text(value, &got), "text")
static bool tm__json_duration(tm_json value, int64_t *us) {
    tm_text text;
    return tm_json_text(value, &text) && tm_parse_duration_us(text, us);
}
TM__CONFIG(duration_us, int64_t, 0, tm__json_duration(value, &got), "a duration, as \"30s\" and \"1h30m\" are")
double tm_config_f64_or(tm_open *o, const char *key, double otherwise) { return tm__config_f64(o, key, false, otherwise); }
int64_t tm_config_i64_or(tm_open *o, const char *key, int64_t otherwise) { return tm__config_i64(o, key, false, otherwise); }
bool tm_config_bool_or(tm_open *o, const char *key, bool otherwise) { return tm__config_bool(o, key, false, otherwise); }
tm_text tm_config_text_or(tm_open *o, const char *key, const char *otherwise) {
    return tm__config_text(o, key, false, tm_str(otherwise));
}
int64_t tm_config_duration_us_or(tm_open *o, const char *key, int64_t otherwise) {
    return tm__config_duration_us(o, key, false, otherwise);
}

static void tm__check_config(tm_open *o) {
    size_t at = 0;
    tm_text key;
    tm_json value;
    while (!o->refusal && tm_json_next(o->config, &at, &key, &value)) {
        bool known = false;
        for (uint32_t i = 0; i < o->n_config_keys; i++) known = known || tm_same(key, o->config_keys[i]);
        if (known) continue;
        tm_buffer text = { NULL, 0, 0, 64 };
        tm__append_text(&text, tm_format("unknown field `%.*s`, ", (int)key.size, key.data));
        tm__append_text(&text, tm_str(o->n_config_keys == 0 ? "there are no fields" : o->n_config_keys == 1 ? "expected " : "expected one of "));
        for (uint32_t i = 0; i < o->n_config_keys; i++) {
            tm__append_text(&text, tm_format("%s`%.*s`", i ? ", " : "", (int)o->config_keys[i].size, o->config_keys[i].data));
        }
        tm__refuse(o, 1, tm_bytes(text.data, text.size));
    }
}

/* ---- what crosses ---- */

typedef struct tm__list {
    const void *items;
    size_t n;
} tm__list;
typedef struct tm__option {
    uint8_t is_some;
    tm__list list;
} tm__option;

typedef struct tm__opened_result {
    uint8_t is_err;
    union tm__plan {
        struct { uint8_t kind; tm_text reason; } refusal;
        struct { tm__option reads; tm__list writes; tm__option carries; } transform;
        struct { uint8_t invertible; } reducer;
        struct { tm__option reads; tm__list accumulator, result; } aggregator;
        struct { tm__list reads, writes; } grouper;
        struct { tm__option reads; tm__list state, writes; uint8_t calling, timeouts; } updater;
    } of;
} tm__opened_result;

typedef struct tm__rejection {
    uint32_t row;
    tm_text reason;
} tm__rejection;

typedef struct tm__call_result {
    uint8_t is_err;
    union tm__answer {
        struct { uint8_t kind; tm_text reason; } failure;
        struct { tm__batch rows; tm__option origin; tm__list rejected; } transform;
        tm__batch rows;
        struct { tm__batch rows; tm__list group, rejected; } grouper;
        struct {
            tm_text changes;
            tm__batch state;
            tm__option timeouts_us;
            tm__batch rows;
            tm__list group, rejected;
        } updater;
    } of;
} tm__call_result;

#ifdef __cplusplus
#define TM__ASSERT static_assert
#else
#define TM__ASSERT _Static_assert
#endif
#ifdef __wasm__
/* These structs are what the canonical ABI lays out. */
TM__ASSERT(sizeof(tm_field) == 36 && offsetof(tm_field, nullable) == 28, "field");
TM__ASSERT(sizeof(tm__batch) == 20 && sizeof(tm__grouped) == 28, "batch");
TM__ASSERT(sizeof(tm__of) == 48 && offsetof(tm__of, watermark_us) == 40, "call");
TM__ASSERT(offsetof(tm__update, timed_out) == 76 && offsetof(tm__update_arguments, input) == 48, "update");
TM__ASSERT(sizeof(tm__opened_result) == 36 && sizeof(tm__call_result) == 80, "results");
#endif

static tm__option tm__names(const tm__reads *reads) {
    tm__option names = { !reads->all, { NULL, 0 } };
    if (reads->all) return names;
    tm_text *list = (tm_text *)tm_alloc(reads->n * sizeof(tm_text));
    for (uint32_t i = 0; i < reads->n; i++) list[i] = reads->columns[i].fields->name;
    names.list.items = list;
    names.list.n = reads->n;
    return names;
}

/* A builder of the field and what it is made of. */
static const tm_field *tm__make_builder(tm_builder *builder, const tm_field *field) {
    builder->field = field;
    builder->n_children = field->n_children;
    builder->children = (tm_builder *)tm_keep(field->n_children * sizeof(tm_builder));
    const tm_field *next = field + 1;
    for (uint32_t i = 0; i < field->n_children; i++) next = tm__make_builder(&builder->children[i], next);
    return next;
}

static void tm__make_table(tm_table *table, tm__fields fields) {
    table->n_columns = fields.n_columns;
    table->columns = (tm_builder *)tm_keep(fields.n_columns * sizeof(tm_builder));
    const tm_field *next = fields.fields;
    for (uint32_t i = 0; i < fields.n_columns; i++) next = tm__make_builder(&table->columns[i], next);
}

void *tm__open(int role, bool invertible, tm_open_function *function, tm_open *o) {
    static tm__opened_result result;
    __builtin_memset(&result, 0, sizeof result);
    o->role = (uint8_t)role;
    o->invertible = invertible;
    o->reads = (tm__reads *)tm_keep((o->n_inputs + 1) * sizeof(tm__reads));
    if (role == TM__REDUCER) {
        tm_schema schema = o->inputs[0];
        for (size_t i = 0; i < schema.n_fields; i += tm_field_size(schema.fields + i)) {
            tm__declare_like(&tm__values, schema.fields[i].name, schema.fields + i);
            tm__add_read(&o->reads[0], schema.fields + i, true);
        }
    }
    function(o);
    tm__check_config(o);
    for (uint32_t i = 0; role == TM__REDUCER && !o->refusal && i < o->reads[0].n; i++) {
        if (o->reads[0].columns[i].is_named) continue;
        tm_text name = o->reads[0].columns[i].fields->name;
        tm_refuse_schema(o, "column `%.*s` is not one that the reducer combines: leave it out before", (int)name.size, name.data);
    }
    if (o->refusal) {
        result.is_err = 1;
        result.of.refusal.kind = o->refusal - 1;
        result.of.refusal.reason = o->reason;
        return &result;
    }
    tm__opened = o;
    /* What every call needs of the schemas that came has to stay. */
    if (o->keys.n_fields) {
        tm_field *kept = (tm_field *)tm_keep(o->keys.n_fields * sizeof(tm_field));
        for (size_t i = 0; i < o->keys.n_fields; i++) {
            tm_field leaf = o->keys.fields[i];
            leaf.n_children = 0;
            kept[i] = *tm__keep_field(&leaf);
            kept[i].n_children = o->keys.fields[i].n_children;
        }
        o->keys.fields = kept;
    }
    tm__list writes = { o->writes.fields, o->writes.n_fields }, state = { o->state.fields, o->state.n_fields };
    switch (role) {
    case TM__TRANSFORM: {
        tm_text *carried = (tm_text *)tm_alloc(o->carried.n_fields * sizeof(tm_text));
        for (uint32_t i = 0; i < o->carried.n_fields; i++) carried[i] = o->carried.fields[i].name;
        tm__option carries = { o->carries, { carried, o->carried.n_fields } };
        result.of.transform.reads = tm__names(&o->reads[0]);
        result.of.transform.writes = writes;
        result.of.transform.carries = carries;
        tm__make_table(&tm__out_tables[0], o->writes);
        break;
    }
    case TM__REDUCER:
        result.of.reducer.invertible = o->invertible;
        tm__make_table(&tm__out_tables[0], tm__values);
        break;
    case TM__AGGREGATOR:
        result.of.aggregator.reads = tm__names(&o->reads[0]);
        result.of.aggregator.accumulator = state;
        result.of.aggregator.result = writes;
        tm__make_table(&tm__out_tables[0], o->state);
        tm__make_table(&tm__out_tables[1], o->writes);
        break;
    case TM__GROUPER: {
        tm__option *reads = (tm__option *)tm_alloc(o->n_inputs * sizeof(tm__option));
        for (uint32_t i = 0; i < o->n_inputs; i++) reads[i] = tm__names(&o->reads[i]);
        result.of.grouper.reads.items = reads;
        result.of.grouper.reads.n = o->n_inputs;
        result.of.grouper.writes = writes;
        tm__make_table(&tm__out_tables[0], o->writes);
        break;
    }
    default:
        result.of.updater.reads = tm__names(&o->reads[0]);
        result.of.updater.state = state;
        result.of.updater.writes = writes;
        result.of.updater.calling = o->calling;
        result.of.updater.timeouts = o->timeouts;
        tm__make_table(&tm__out_tables[0], o->writes);
        tm__make_table(&tm__state_table, o->state);
    }
    /* Numbers of key columns are those that tm_key() gave; all of them come, in the step's order. */
    return &result;
}

/* ---- from what crosses to columns ---- */

static const int32_t tm__no_offsets[2] = { 0, 0 };

typedef struct tm__place {
    const tm__node *node;
    const tm_text *buffer;
} tm__place;

static const tm_field *tm__lift(tm_column *column, const tm_field *field, tm__place *place) {
    column->field = field;
    column->n_children = field->n_children;
    column->offsets = tm__no_offsets;
    column->values = "";
    if (place->node) {
        column->length = place->node->length;
        column->null_count = place->node++->null_count;
        if (field->type != TM_NULL) {
            if (place->buffer->size) column->validity = (const uint8_t *)place->buffer->data;
            place->buffer++;
            bool has_offsets = field->type == TM_UTF8 || field->type == TM_BINARY || field->type == TM_LIST || field->type == TM_MAP;
            if (has_offsets) {
                if (place->buffer->size) column->offsets = (const int32_t *)(const void *)place->buffer->data;
                place->buffer++;
            }
            if (field->type != TM_STRUCT && field->type != TM_LIST && field->type != TM_MAP) column->values = place->buffer++->data;
        }
    }
    const tm_field *next = field + 1;
    if (field->n_children) {
        tm_column *children = (tm_column *)tm_alloc(field->n_children * sizeof(tm_column));
        for (uint32_t i = 0; i < field->n_children; i++) next = tm__lift(&children[i], next, place);
        column->children = children;
    }
    return next;
}

static tm__place tm__begin(const tm__batch *batch) {
    tm__place place = { batch->n_nodes ? batch->nodes : NULL, batch->buffers };
    return place;
}

static tm_batch tm__lift_reads(const tm__batch *batch, const tm__reads *reads) {
    tm_column *columns = (tm_column *)tm_alloc(reads->n * sizeof(tm_column));
    tm__place place = tm__begin(batch);
    for (uint32_t i = 0; i < reads->n; i++) tm__lift(&columns[i], reads->columns[i].fields, &place);
    tm_batch lifted = { batch->rows, reads->n, columns };
    return lifted;
}

static tm_batch tm__lift_fields(const tm__batch *batch, const tm__fields *fields) {
    tm_column *columns = (tm_column *)tm_alloc(fields->n_columns * sizeof(tm_column));
    tm__place place = tm__begin(batch);
    const tm_field *next = fields->fields;
    for (uint32_t i = 0; i < fields->n_columns; i++) next = tm__lift(&columns[i], next, &place);
    tm_batch lifted = { batch->rows, fields->n_columns, columns };
    return lifted;
}

double tm_get_number(const tm_column *column, uint32_t row) {
    switch (column->field->type) {
    case TM_INT8: return tm_get_i8(column, row);
    case TM_INT16: return tm_get_i16(column, row);
    case TM_INT32: return tm_get_i32(column, row);
    case TM_INT64: return (double)tm_get_i64(column, row);
    case TM_UINT8: return tm_get_u8(column, row);
    case TM_UINT16: return tm_get_u16(column, row);
    case TM_UINT32: return tm_get_u32(column, row);
    case TM_UINT64: return (double)tm_get_u64(column, row);
    case TM_FLOAT32: return tm_get_f32(column, row);
    case TM_FLOAT64: return tm_get_f64(column, row);
    case TM_DECIMAL: {
        double number = (double)tm_get_decimal(column, row), unit = 1;
        int scale = column->field->of.decimal.scale;
        for (int i = scale < 0 ? -scale : scale; i; i--) unit *= 10;
        return scale < 0 ? number * unit : number / unit;
    }
    default: tm__misfit(column->field, __func__);
    }
}

/* ---- cursors ---- */

/* The first column that is null at a row and has no place for it; NULL: none is. */
static const tm_field *tm__null_in(const tm_batch *batch, const tm__reads *reads, uint32_t row) {
    for (uint32_t i = 0; i < reads->n; i++) {
        if (!reads->columns[i].nullable && tm_is_null(&batch->columns[i], row)) return reads->columns[i].fields;
    }
    return NULL;
}

static bool tm__may_be_null(const tm_batch *batch, const tm__reads *reads) {
    for (uint32_t i = 0; i < reads->n; i++) {
        if (!reads->columns[i].nullable && (batch->columns[i].null_count || batch->columns[i].field->type == TM_NULL)) return true;
    }
    return false;
}

bool tm_next_row_of(tm_call *c, uint32_t input) {
    tm__cursor *cursor = &c->cursors[input];
    while (cursor->next < cursor->end && !c->failure) {
        uint32_t row = cursor->next++;
        if (__builtin_expect(cursor->may_be_null, 0)) {
            const tm_field *null = tm__null_in(&c->in[input], &tm__opened->reads[input], row);
            if (null && c->role == TM__TRANSFORM) tm_reject_row(c, 0, row, "column `%.*s` is null", (int)null->name.size, null->name.data);
            if (null && (c->role == TM__REDUCER || c->role == TM__AGGREGATOR)) {
                tm_fail(c, "column `%.*s` is null", (int)null->name.size, null->name.data);
            }
            if (null) continue;
        }
        c->row = row;
        c->row_input = input;
        return true;
    }
    return false;
}
bool tm_next_row(tm_call *c) { return tm_next_row_of(c, 0); }

uint32_t tm_n_rows(const tm_call *c, uint32_t input) { return c->cursors[input].n_readable; }

static uint32_t tm__group_start(const tm_call *c, uint32_t input) {
    const uint32_t *ends = c->cursors[input].ends;
    return ends && c->group && c->group <= c->n_groups ? ends[c->group - 1] : 0;
}
void tm_rewind(tm_call *c, uint32_t input) { c->cursors[input].next = tm__group_start(c, input); }

#define TM__NEVER INT64_MAX
#define TM__AS_IT_IS INT64_MIN

/* Checks what an updater has said of the key that it leaves. */
static void tm__leave_key(tm_call *c) {
    if (c->group >= c->n_groups || c->failure) return;
    if (c->state_set) c->changes[c->group] = 1;
    else if (c->state_removed && c->has_state) c->changes[c->group] = 2;
    bool has_state = c->state_set || (c->has_state && !c->state_removed);
    int64_t timeout_us = c->timeouts_us[c->group];
    if (!has_state && timeout_us != TM__AS_IT_IS && timeout_us != TM__NEVER) {
        tm_fail(c, "it sets a timeout for a key that it leaves without state");
    }
    if (!has_state) c->timeouts_us[c->group] = TM__AS_IT_IS;
}

bool tm_next_group(tm_call *c) {
    while (!c->failure) {
        if (c->role == TM__UPDATER) tm__leave_key(c);
        if (c->group + 1 >= c->n_groups) {
            c->group = c->n_groups;
            for (uint32_t i = 0; i < c->n_inputs; i++) c->cursors[i].next = c->cursors[i].end;
            return false;
        }
        c->group++;
        uint32_t n_rows = 0, n_readable = 0;
        for (uint32_t i = 0; i < c->n_inputs; i++) {
            tm__cursor *cursor = &c->cursors[i];
            cursor->next = tm__group_start(c, i);
            cursor->end = cursor->ends[c->group];
            n_rows += cursor->n_readable = cursor->end - cursor->next;
        }
        n_readable = n_rows;
        c->n_rows = c->cursors[0].n_readable;
        if (c->role < TM__GROUPER) return true;
        if (c->role == TM__UPDATER) {
            c->has_state = c->had_state[c->group];
            c->timed_out = c->had_timed_out[c->group];
            c->state_row = c->n_states;
            c->n_states += c->has_state;
            c->state_set = c->state_removed = false;
        }
        const tm_field *key = tm__null_in(&c->keys, &tm__opened->key_reads, c->group);
        for (uint32_t i = 0; i < c->n_inputs; i++) {
            tm__cursor *cursor = &c->cursors[i];
            for (uint32_t row = cursor->next; (key || cursor->may_be_null) && row < cursor->end; row++) {
                const tm_field *null = key ? key : tm__null_in(&c->in[i], &tm__opened->reads[i], row);
                if (!null) continue;
                tm_reject_row(c, i, row, "%scolumn `%.*s` is null", key ? "key " : "", (int)null->name.size, null->name.data);
                cursor->n_readable--;
                n_readable--;
            }
        }
        c->n_rows = c->cursors[0].n_readable;
        if (key) continue;
        if (c->role == TM__GROUPER && !n_readable) continue;
        /* All rows that it is called for have been rejected. */
        if (n_rows && !n_readable && !(c->has_state && tm__opened->calling)) continue;
        return true;
    }
    return false;
}

void tm_emit_from(tm_call *c, uint32_t row) {
    uint32_t here = c->row;
    c->row = row;
    tm_emit(c);
    c->row = here;
}

static void tm__reject(tm_call *c, uint32_t input, uint32_t row, tm_text reason) {
    if (c->role == TM__REDUCER || c->role == TM__AGGREGATOR) {
        tm_fail(c, "row %u cannot be combined: %.*s", row, (int)reason.size, reason.data);
        return;
    }
    tm__rejection rejection = { row, reason };
    tm__append(&c->rejected[input].list, &rejection, sizeof rejection);
    c->rejected[input].n++;
}
void tm_reject(tm_call *c, const char *format, ...) { TM__SAY(text, format); tm__reject(c, c->row_input, c->row, text); }
void tm_reject_row(tm_call *c, uint32_t input, uint32_t row, const char *format, ...) { TM__SAY(text, format); tm__reject(c, input, row, text); }

static void tm__fail(tm_call *c, uint8_t kind, tm_text reason) {
    if (c->failure) return;
    c->failure = kind;
    c->reason = reason;
}
void tm_fail(tm_call *c, const char *format, ...) { TM__SAY(text, format); tm__fail(c, 2, text); }
void tm_fail_for_now(tm_call *c, const char *format, ...) { TM__SAY(text, format); tm__fail(c, 1, text); }
void tm__no_inverse(tm_call *c) { tm_fail(c, "this reducer has no inverse"); }

/* ---- state ---- */

void tm_set_state(tm_call *c) {
    if (c->state_set) tm_fail(c, "it sets the state of a key twice in one call");
    c->state_set = true;
    c->new_state.n_rows++;
}
void tm_remove_state(tm_call *c) {
    if (c->state_set) tm_fail(c, "it removes the state of a key that it has set in the same call");
    c->state_removed = true;
    c->timeouts_us[c->group] = TM__NEVER;
}
void tm_set_timeout(tm_call *c, int64_t at_us) {
    if (!tm__opened->timeouts) tm_fail(c, "it sets a timeout, and `open` calls neither tm_use_batch_time() nor tm_use_event_time()");
    /* The two ends of the range have meanings of their own. */
    if (at_us == INT64_MAX) at_us--;
    if (at_us == INT64_MIN) at_us++;
    c->timeouts_us[c->group] = at_us;
}
void tm_set_timeout_after(tm_call *c, int64_t us) {
    int64_t at_us;
    if (tm__opened->timeouts == 2) tm_fail(c, "tm_set_timeout_after() counts from the batch's time, and its timeouts are in event time");
    if (__builtin_add_overflow(c->batch_time_us, us, &at_us)) at_us = INT64_MAX;
    tm_set_timeout(c, at_us);
}
void tm_clear_timeout(tm_call *c) { c->timeouts_us[c->group] = TM__NEVER; }

/* ---- builders ---- */

static bool tm__has_offsets(uint8_t type) { return type == TM_UTF8 || type == TM_BINARY || type == TM_LIST || type == TM_MAP; }

static void tm__reset_buffer(tm_buffer *buffer) {
    /* Room for as much as the last call needed, and an eighth more. */
    if (buffer->size) buffer->hint = buffer->size + buffer->size / 8 + 16;
    buffer->data = NULL;
    buffer->size = buffer->capacity = 0;
}

static void tm__reset(tm_builder *builder) {
    builder->length = builder->null_count = 0;
    tm__reset_buffer(&builder->validity);
    tm__reset_buffer(&builder->values);
    tm__reset_buffer(&builder->offsets);
    if (tm__has_offsets(builder->field->type)) tm__append(&builder->offsets, tm__no_offsets, 4);
    for (uint32_t i = 0; i < builder->n_children; i++) tm__reset(&builder->children[i]);
}

static void tm__reset_table(tm_table *table) {
    table->n_rows = 0;
    for (uint32_t i = 0; i < table->n_columns; i++) tm__reset(&table->columns[i]);
}

void tm__put_validity(tm_builder *builder, bool valid) {
    if (builder->length % 8 == 0) {
        *tm__room(&builder->validity, 1) = 0;
        builder->validity.size++;
    }
    builder->validity.data[builder->length / 8] |= (uint8_t)(valid << builder->length % 8);
}

static size_t tm__width(const tm_field *field) {
    static const uint8_t widths[] = { 0, 0, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 0, 0, 0, 4, 8, 8, 16, 0, 0, 0 };
    return field->type == TM_FIXED ? field->of.width : widths[field->type];
}

static void tm__put_blank(tm_builder *builder);

/* What stands in the place of a null: all but its validity and its count. */
static void tm__blank(tm_builder *builder) {
    uint8_t type = builder->field->type;
    if (type == TM_BOOLEAN) {
        if (builder->length % 8 == 0) tm__append(&builder->values, "", 1);
    } else if (tm__has_offsets(type)) {
        tm__append(&builder->offsets, builder->offsets.data + builder->offsets.size - 4, 4);
    } else if (type == TM_STRUCT) {
        for (uint32_t i = 0; i < builder->n_children; i++) tm__put_blank(&builder->children[i]);
    } else {
        size_t width = tm__width(builder->field);
        if (width) __builtin_memset(tm__room(&builder->values, width), 0, width);
        builder->values.size += width;
    }
}

static void tm__put_blank(tm_builder *builder) {
    if (builder->field->nullable) {
        tm_put_null(builder);
    } else {
        tm__blank(builder);
        tm__put(builder);
    }
}

void tm_put_null(tm_builder *builder) {
    const tm_field *field = builder->field;
    if (!field->nullable) {
        tm_fail(tm__current, "column `%.*s` is declared without `?`, and was given a null", (int)field->name.size, field->name.data);
    }
    tm__blank(builder);
    if (field->type != TM_NULL) {
        if (!builder->null_count) {
            size_t n_full = builder->length / 8, n_left = builder->length % 8;
            __builtin_memset(tm__room(&builder->validity, n_full + 1), 0xFF, n_full + 1);
            builder->validity.size = n_full + (n_left > 0);
            if (n_left) builder->validity.data[n_full] = (uint8_t)((1u << n_left) - 1);
        }
        tm__put_validity(builder, false);
    }
    builder->null_count++;
    builder->length++;
}

void tm_put_list(tm_builder *builder) {
    TM__FITS(builder->field, builder->field->type == TM_LIST || builder->field->type == TM_MAP);
    int32_t end = (int32_t)builder->children[0].length;
    tm__append(&builder->offsets, &end, 4);
    tm__put(builder);
}
void tm_put_struct(tm_builder *builder) {
    TM__FITS(builder->field, builder->field->type == TM_STRUCT);
    tm__put(builder);
}
void tm_put_entry(tm_builder *map) { tm_put_struct(&map->children[0]); }

void tm_put_value(tm_builder *builder, const tm_column *column, uint32_t row) {
    uint8_t type = column->field->type;
    TM__FITS(builder->field, builder->field->type == type && builder->n_children == column->n_children);
    if (tm_is_null(column, row)) {
        tm_put_null(builder);
        return;
    }
    if (type == TM_BOOLEAN) {
        tm_put_bool(builder, tm_get_bool(column, row));
    } else if (type == TM_UTF8 || type == TM_BINARY || type == TM_FIXED) {
        tm_put_text(builder, tm_get_text(column, row));
    } else if (type == TM_LIST || type == TM_MAP) {
        tm_range range = tm_get_list(column, row);
        for (uint32_t i = range.start; i < range.end; i++) tm_put_value(tm_item(builder), tm_items(column), i);
        tm_put_list(builder);
    } else if (type == TM_STRUCT) {
        for (uint32_t i = 0; i < column->n_children; i++) tm_put_value(&builder->children[i], &column->children[i], row);
        tm_put_struct(builder);
    } else {
        size_t width = tm__width(column->field);
        tm__append(&builder->values, (const uint8_t *)column->values + row * width, width);
        tm__put(builder);
    }
}

/* Whether every part of a column has as many values as it should. */
static bool tm__is_whole(tm_call *c, const tm_builder *builder, uint32_t length) {
    if (builder->length != length) {
        tm_fail(c, "column `%.*s` was given %u value%s for %u row%s", (int)builder->field->name.size, builder->field->name.data,
                builder->length, builder->length == 1 ? "" : "s", length, length == 1 ? "" : "s");
        return false;
    }
    uint32_t of_children = length;
    if (builder->field->type == TM_LIST || builder->field->type == TM_MAP) {
        __builtin_memcpy(&of_children, builder->offsets.data + builder->offsets.size - 4, 4);
    }
    for (uint32_t i = 0; i < builder->n_children; i++) {
        if (!tm__is_whole(c, &builder->children[i], of_children)) return false;
    }
    return true;
}

static void tm__lower(const tm_builder *builder, tm_buffer *nodes, tm_buffer *buffers) {
    tm__node node = { builder->length, builder->null_count };
    uint8_t type = builder->field->type;
    tm__append(nodes, &node, sizeof node);
    const tm_buffer *parts[] = { &builder->validity, tm__has_offsets(type) ? &builder->offsets : NULL,
                                 type == TM_STRUCT || type == TM_LIST || type == TM_MAP ? NULL : &builder->values };
    for (int i = 0; i < 3 && type != TM_NULL; i++) {
        if (!parts[i]) continue;
        tm_text bytes = tm_bytes(parts[i]->data, parts[i]->size);
        tm__append(buffers, &bytes, sizeof bytes);
    }
    for (uint32_t i = 0; i < builder->n_children; i++) tm__lower(&builder->children[i], nodes, buffers);
}

static tm__batch tm__finish(tm_call *c, tm_table *table) {
    tm__batch batch = { table->n_rows, NULL, 0, NULL, 0 };
    for (uint32_t i = 0; i < table->n_columns; i++) {
        if (!tm__is_whole(c, &table->columns[i], table->n_rows)) return batch;
    }
    if (!table->n_rows) return batch;
    tm_buffer nodes = { NULL, 0, 0, 64 }, buffers = { NULL, 0, 0, 128 };
    for (uint32_t i = 0; i < table->n_columns; i++) tm__lower(&table->columns[i], &nodes, &buffers);
    batch.nodes = (const tm__node *)(const void *)nodes.data;
    batch.n_nodes = nodes.size / sizeof(tm__node);
    batch.buffers = (const tm_text *)(const void *)buffers.data;
    batch.n_buffers = buffers.size / sizeof(tm_text);
    return batch;
}

/* The rejected rows of an input, by their numbers; of a row that was rejected twice the first reason. */
static tm__list tm__finish_rejected(tm__rejected *rejected) {
    tm__rejection *rows = (tm__rejection *)(void *)rejected->list.data;
    uint32_t n = 0;
    for (uint32_t i = 0; i < rejected->n; i++) {
        tm__rejection rejection = rows[i];
        uint32_t at = n;
        while (at && rows[at - 1].row > rejection.row) at--;
        if (at && rows[at - 1].row == rejection.row) continue;
        for (uint32_t j = n; j > at; j--) rows[j] = rows[j - 1];
        rows[at] = rejection;
        n++;
    }
    tm__list list = { rows, n };
    return list;
}

/* ---- calls ---- */

void *tm__call(int role, int step, tm_call_function *function, const tm__of *of, const tm__batch *keys,
               const tm__grouped *inputs, size_t n_inputs, const tm__update *update) {
    static tm__call_result result;
    tm_open *o = tm__opened;
    tm_call *c = (tm_call *)tm_alloc(sizeof(tm_call));
    __builtin_memset(&result, 0, sizeof result);
    tm__current = c;
    c->batch_id = of->batch_id;
    c->batch_time_us = of->batch_time_us;
    c->partition = of->partition;
    c->attempt = of->attempt;
    c->first_row = of->first_row;
    c->has_watermark = of->has_watermark;
    c->watermark_us = of->watermark_us;
    c->role = (uint8_t)role;
    c->step = (uint8_t)step;
    bool of_accumulators = role == TM__AGGREGATOR && step != TM__ROWS;
    tm_batch *in = (tm_batch *)tm_alloc(n_inputs * sizeof(tm_batch));
    c->cursors = (tm__cursor *)tm_alloc(n_inputs * sizeof(tm__cursor));
    c->rejected = (tm__rejected *)tm_alloc(n_inputs * sizeof(tm__rejected));
    c->in = in;
    c->n_inputs = (uint32_t)n_inputs;
    for (uint32_t i = 0; i < n_inputs; i++) {
        const tm__reads *reads = &o->reads[role == TM__REDUCER ? 0 : i];
        in[i] = of_accumulators ? tm__lift_fields(&inputs[i].rows, &o->state) : tm__lift_reads(&inputs[i].rows, reads);
        c->cursors[i].ends = inputs[i].ends.ends;
        c->cursors[i].may_be_null = !of_accumulators && step != TM__INVERT && tm__may_be_null(&in[i], reads);
    }
    bool is_grouped = role != TM__TRANSFORM && step != TM__INVERT && step != TM__FINISH;
    if (is_grouped) {
        c->n_groups = keys ? keys->rows : (uint32_t)inputs[0].ends.n;
        c->group = UINT32_MAX;
    } else {
        for (uint32_t i = 0; i < n_inputs; i++) c->cursors[i].end = c->cursors[i].n_readable = in[i].n_rows;
        c->n_rows = in[0].n_rows;
    }
    if (keys) {
        /* All key columns come: those that are read are picked by their names. */
        tm_batch all = { keys->rows, 0, NULL };
        tm_column *picked = (tm_column *)tm_alloc(o->key_reads.n * sizeof(tm_column));
        tm__fields fields = { (tm_field *)o->keys.fields, (uint32_t)o->keys.n_fields, 0, 0 };
        for (size_t i = 0; i < o->keys.n_fields; i += tm_field_size(o->keys.fields + i)) fields.n_columns++;
        all = tm__lift_fields(keys, &fields);
        for (uint32_t i = 0; i < o->key_reads.n; i++) {
            for (uint32_t j = 0; j < all.n_columns; j++) {
                if (tm_same(all.columns[j].field->name, o->key_reads.columns[i].fields->name)) picked[i] = all.columns[j];
            }
        }
        c->keys.n_rows = keys->rows;
        c->keys.n_columns = o->key_reads.n;
        c->keys.columns = picked;
    }
    if (update) {
        c->state = tm__lift_fields(&update->state, &o->state);
        c->had_state = (const uint8_t *)update->has_state.data;
        c->had_timed_out = (const uint8_t *)update->timed_out.data;
        c->changes = (uint8_t *)tm_alloc(c->n_groups);
        c->timeouts_us = (int64_t *)tm_alloc(c->n_groups * sizeof(int64_t));
        for (uint32_t i = 0; i < c->n_groups; i++) c->timeouts_us[i] = TM__AS_IT_IS;
        tm__reset_table(&tm__state_table);
        c->new_state = tm__state_table;
    }
    tm_table *out = &tm__out_tables[role == TM__AGGREGATOR && step == TM__FINISH];
    tm__reset_table(out);
    c->out = *out;
    c->keeps_origin = role == TM__TRANSFORM ? o->carries || o->tells_origin : role >= TM__GROUPER;
    static size_t origin_hint;
    c->origin.hint = origin_hint;

    function(c);

    if (role == TM__UPDATER && !c->failure) tm__leave_key(c);
    if (role == TM__REDUCER || role == TM__AGGREGATOR) c->out.n_rows = is_grouped ? c->n_groups : in[0].n_rows;
    tm__batch rows = tm__finish(c, &c->out), state = { 0, NULL, 0, NULL, 0 };
    if (update) state = tm__finish(c, &c->new_state);
    origin_hint = c->origin.size + c->origin.size / 8 + 16;
    if (c->failure) {
        result.is_err = 1;
        result.of.failure.kind = c->failure - 1;
        result.of.failure.reason = c->reason;
        return &result;
    }
    tm__list origin = { c->origin.data, c->origin.size / 4 };
    switch (role) {
    case TM__TRANSFORM: {
        bool is_identity = !c->keeps_origin || (origin.n == in[0].n_rows && origin.n == c->out.n_rows);
        const uint32_t *from = (const uint32_t *)origin.items;
        for (uint32_t i = 0; is_identity && c->keeps_origin && i < origin.n; i++) is_identity = from[i] == i;
        result.of.transform.rows = rows;
        result.of.transform.origin.is_some = !is_identity;
        result.of.transform.origin.list = origin;
        result.of.transform.rejected = tm__finish_rejected(&c->rejected[0]);
        break;
    }
    case TM__REDUCER:
    case TM__AGGREGATOR: result.of.rows = rows; break;
    case TM__GROUPER: {
        tm__list *rejected = (tm__list *)tm_alloc(n_inputs * sizeof(tm__list));
        for (size_t i = 0; i < n_inputs; i++) rejected[i] = tm__finish_rejected(&c->rejected[i]);
        result.of.grouper.rows = rows;
        result.of.grouper.group = origin;
        result.of.grouper.rejected.items = rejected;
        result.of.grouper.rejected.n = n_inputs;
        break;
    }
    default: {
        bool says = false;
        for (uint32_t i = 0; i < c->n_groups; i++) says = says || c->timeouts_us[i] != TM__AS_IT_IS;
        result.of.updater.changes = tm_bytes(c->changes, c->n_groups);
        result.of.updater.state = state;
        result.of.updater.timeouts_us.is_some = says && o->timeouts;
        result.of.updater.timeouts_us.list.items = c->timeouts_us;
        result.of.updater.timeouts_us.list.n = c->n_groups;
        result.of.updater.rows = rows;
        result.of.updater.group = origin;
        result.of.updater.rejected = tm__finish_rejected(&c->rejected[0]);
    }
    }
    return &result;
}

/* ---- diagnostics ---- */

#ifdef __wasm__
#define TM__IMPORT(name) __attribute__((import_module("tidemill:operator/diagnostics@" TIDEMILL_CONTRACT), import_name(name)))
TM__IMPORT("log") void tm__host_log(int level, const char *text, size_t size);
TM__IMPORT("count") void tm__host_count(const char *name, size_t size, uint64_t add);
TM__IMPORT("gauge") void tm__host_gauge(const char *name, size_t size, double value);
#else
static void tm__host_log(int level, const char *text, size_t size) { fprintf(stderr, "%d: %.*s\n", level, (int)size, text); }
static void tm__host_count(const char *name, size_t size, uint64_t add) { (void)name, (void)size, (void)add; }
static void tm__host_gauge(const char *name, size_t size, double value) { (void)name, (void)size, (void)value; }
#endif

void tm_log(int level, const char *format, ...) { TM__SAY(text, format); tm__host_log(level, text.data, text.size); }
void tm_count(const char *name, uint64_t add) { tm__host_count(name, tm_str(name).size, add); }
void tm_gauge(const char *name, double value) { tm__host_gauge(name, tm_str(name).size, value); }

void tm__misfit(const tm_field *field, const char *function) {
    tm_text type = tm_type_text(field);
    tm_log(TM_ERROR, "%s() on column `%.*s`, which is %.*s", function, (int)field->name.size, field->name.data, (int)type.size, type.data);
    __builtin_trap();
}

#ifdef TIDEMILL_FREESTANDING
/* What compilers call without being asked, where no libc has it. */
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}
__attribute__((weak)) void *memset(void *to, int byte, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = (uint8_t)byte;
    return to;
}
#endif

#endif /* TIDEMILL_IMPLEMENTATION */
#endif /* TIDEMILL_H */
