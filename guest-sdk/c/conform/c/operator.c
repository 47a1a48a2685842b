// The conformance operator in C, in all roles: see docs/conformance.md.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static int fails;                // 0: no call does
static uint64_t reject_every;    // 0: no row is rejected
static bool by_rows, diagnostics, carry;
static uint64_t repeat;
static int64_t timeout_us, remove_at;
static bool has_timeout, has_remove_at;
static uint8_t timeouts;

static bool is_text(tm_text text, const char *expected) { return tm_same(text, tm_str(expected)); }

// What every role is told. All keys are known in every role, and each looks at its own.
static void configure(tm_open *o) {
    tm_text refuse = tm_config_text_or(o, "refuse", ""), fail = tm_config_text_or(o, "fail", "");
    tm_text by = tm_config_text_or(o, "by", "columns"), time = tm_config_text_or(o, "timeouts", "never");
    if (is_text(refuse, "config")) tm_refuse_config(o, "refused as asked");
    if (is_text(refuse, "schema")) tm_refuse_schema(o, "refused as asked");
    if (is_text(refuse, "other")) tm_refuse(o, "refused as asked");
    fails = is_text(fail, "retry") ? 1 : is_text(fail, "fatal") ? 2 : 0;
    reject_every = (uint64_t)tm_config_i64_or(o, "reject-every", 0);
    by_rows = is_text(by, "rows");
    diagnostics = tm_config_bool_or(o, "diagnostics", false);
    repeat = (uint64_t)tm_config_i64_or(o, "repeat", 1);
    carry = tm_config_bool_or(o, "carry", false);
    o->invertible = tm_config_bool_or(o, "invertible", false);
    if (tm_config_bool_or(o, "every-key", false)) tm_call_every_key(o);
    timeouts = is_text(time, "batch-time") ? 1 : is_text(time, "event-time") ? 2 : 0;
    if (timeouts == 1) tm_use_batch_time(o);
    if (timeouts == 2) tm_use_event_time(o);
    tm_json after = tm_config_json(o, "timeout-us"), most = tm_config_json(o, "remove-at");
    has_timeout = tm_json_i64(after, &timeout_us);
    has_remove_at = tm_json_i64(most, &remove_at);
}

static void no_rejections(tm_open *o) {
    if (reject_every) tm_refuse_config(o, "`reject-every` is for roles that reject rows");
}

static void begin(tm_call *c, uint32_t n_rows) {
    if (diagnostics) {
        tm_log(TM_INFO, "conform: %u rows", n_rows);
        tm_count("conform_rows", n_rows);
        tm_gauge("conform_last", n_rows);
    }
    if (fails == 1) tm_fail_for_now(c, "failed as asked");
    if (fails == 2) tm_fail(c, "failed as asked");
}

static bool rejects(uint64_t number) { return reject_every && number % reject_every == reject_every - 1; }

// Appends a value as an author would who knows its type.
static void put_as_its_type(tm_builder *to, const tm_column *from, uint32_t row) {
    if (tm_is_null(from, row)) {
        tm_put_null(to);
        return;
    }
    switch (from->field->type) {
    case TM_BOOLEAN: tm_put_bool(to, tm_get_bool(from, row)); break;
    case TM_INT8: tm_put_i8(to, tm_get_i8(from, row)); break;
    case TM_INT16: tm_put_i16(to, tm_get_i16(from, row)); break;
    case TM_INT32: tm_put_i32(to, tm_get_i32(from, row)); break;
    case TM_INT64: tm_put_i64(to, tm_get_i64(from, row)); break;
    case TM_UINT8: tm_put_u8(to, tm_get_u8(from, row)); break;
    case TM_UINT16: tm_put_u16(to, tm_get_u16(from, row)); break;
    case TM_UINT32: tm_put_u32(to, tm_get_u32(from, row)); break;
    case TM_UINT64: tm_put_u64(to, tm_get_u64(from, row)); break;
    case TM_FLOAT32: tm_put_f32(to, tm_get_f32(from, row)); break;
    case TM_FLOAT64: tm_put_f64(to, tm_get_f64(from, row)); break;
    case TM_DATE32: tm_put_date(to, tm_get_date(from, row)); break;
    case TM_TIMESTAMP:
    case TM_DURATION: tm_put_time(to, tm_get_time(from, row)); break;
    case TM_DECIMAL: tm_put_decimal(to, tm_get_decimal(from, row)); break;
    case TM_LIST: {
        tm_range range = tm_get_list(from, row);
        for (uint32_t i = range.start; i < range.end; i++) put_as_its_type(tm_item(to), tm_items(from), i);
        tm_put_list(to);
        break;
    }
    case TM_MAP: {
        tm_range range = tm_get_list(from, row);
        for (uint32_t i = range.start; i < range.end; i++) {
            put_as_its_type(tm_map_key(to), tm_map_keys(from), i);
            put_as_its_type(tm_map_value(to), tm_map_values(from), i);
            tm_put_entry(to);
        }
        tm_put_map(to);
        break;
    }
    case TM_STRUCT:
        for (uint32_t i = 0; i < from->n_children; i++) put_as_its_type(tm_part(to, i), tm_child(from, i), row);
        tm_put_struct(to);
        break;
    default: tm_put_text(to, tm_get_text(from, row));
    }
}

// Appends the columns of a row of a batch, from `first` on, to columns of a table from `at` on.
static void put_row(tm_table *to, uint32_t at, const tm_batch *from, uint32_t first, uint32_t row) {
    for (uint32_t i = first; i < from->n_columns; i++) {
        tm_builder *builder = &to->columns[at + i - first];
        if (by_rows) put_as_its_type(builder, &from->columns[i], row);
        else tm_put_value(builder, &from->columns[i], row);
    }
}

static bool has_column(tm_schema schema, const char *name) {
    for (size_t i = 0; i < schema.n_fields; i += tm_field_size(schema.fields + i)) {
        if (tm_same(schema.fields[i].name, tm_str(name))) return true;
    }
    return false;
}

static void refuse_own(tm_open *o, const char *name) {
    if (has_column(o->inputs[0], name)) tm_refuse_schema(o, "there is a column `%s`, which is the operator's own", name);
}

static void write_all(tm_open *o) {
    tm_schema input = o->inputs[0];
    for (size_t i = 0; i < input.n_fields; i += tm_field_size(input.fields + i)) tm_write_like(o, input.fields[i].name, input.fields + i);
}

static void keep_all(tm_open *o) {
    tm_schema input = o->inputs[0];
    for (size_t i = 0; i < input.n_fields; i += tm_field_size(input.fields + i)) tm_keep_state_like(o, input.fields[i].name, input.fields + i);
}

// ---- transform: echo ----

static void open_transform(tm_open *o) {
    configure(o);
    tm_tell_origin(o);
    if (carry) {
        tm_carry_all(o);
    } else {
        tm_read_all(o, 0);
        write_all(o);
    }
}

static void process_transform(tm_call *c) {
    begin(c, c->n_rows);
    while (tm_next_row(c)) {
        uint64_t number = c->first_row + c->row;
        if (rejects(number)) {
            tm_reject(c, "row %llu is rejected", (unsigned long long)number);
            continue;
        }
        for (uint64_t i = 0; i < repeat; i++) {
            put_row(&c->out, 0, &c->in[0], 0, c->row);
            tm_emit(c);
        }
    }
}

TIDEMILL_TRANSFORM(open_transform, process_transform)

// ---- reducer: last ----

static void open_reducer(tm_open *o) {
    configure(o);
    no_rejections(o);
    tm_read_all(o, 0);
}

static void reduce(tm_call *c) {
    begin(c, c->in[0].n_rows);
    while (tm_next_group(c)) {
        while (tm_next_row(c)) {}
        put_row(&c->out, 0, &c->in[0], 0, c->row);
    }
}

static void invert(tm_call *c) {
    while (tm_next_row(c)) put_row(&c->out, 0, &c->in[0], 0, c->row);
}

TIDEMILL_REDUCER_INVERTIBLE(open_reducer, reduce, invert)

// ---- aggregator: count and last ----

static void open_aggregator(tm_open *o) {
    configure(o);
    no_rejections(o);
    refuse_own(o, "rows");
    tm_read_all(o, 0);
    tm_keep_state(o, "rows", "int64");
    keep_all(o);
    tm_write(o, "rows", "int64");
    write_all(o);
}

static void accumulate(tm_call *c) {
    begin(c, c->in[0].n_rows);
    while (tm_next_group(c)) {
        int64_t n = 0;
        while (tm_next_row(c)) n++;
        tm_put_i64(tm_out(c, 0), n);
        put_row(&c->out, 1, &c->in[0], 0, c->row);
    }
}

static void merge(tm_call *c) {
    begin(c, c->in[0].n_rows);
    while (tm_next_group(c)) {
        int64_t n = 0;
        while (tm_next_row(c)) n += tm_row_i64(c, 0);
        tm_put_i64(tm_out(c, 0), n);
        put_row(&c->out, 1, &c->in[0], 1, c->row);
    }
}

static void finish(tm_call *c) {
    begin(c, c->in[0].n_rows);
    while (tm_next_row(c)) put_row(&c->out, 0, &c->in[0], 0, c->row);
}

TIDEMILL_AGGREGATOR(open_aggregator, accumulate, merge, finish)

// ---- grouper: reversed ----

static bool is_same(const tm_field *a, const tm_field *b) {
    return tm_same(a->name, b->name) && tm_same(tm_type_text(a), tm_type_text(b)) && a->nullable == b->nullable && a->n_children == b->n_children;
}

static void open_grouper(tm_open *o) {
    configure(o);
    for (uint32_t i = 0; i < o->n_inputs; i++) {
        tm_schema first = o->inputs[0], input = o->inputs[i];
        bool same = input.n_fields == first.n_fields;
        for (size_t j = 0; same && j < input.n_fields; j++) same = is_same(first.fields + j, input.fields + j);
        if (!same) tm_refuse_schema(o, "the inputs have different columns");
        tm_read_all(o, i);
    }
    write_all(o);
}

static void process_grouper(tm_call *c) {
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < c->n_inputs; i++) n_rows += c->in[i].n_rows;
    begin(c, n_rows);
    while (tm_next_group(c)) {
        for (uint32_t i = 0; i < c->n_inputs; i++) {
            uint32_t n = 0, *rows = tm_alloc(tm_n_rows(c, i) * sizeof *rows);
            while (tm_next_row_of(c, i)) {
                if (rejects(c->row)) tm_reject(c, "row %u of input %u is rejected", c->row, i);
                else rows[n++] = c->row;
            }
            while (n) {
                put_row(&c->out, 0, &c->in[i], 0, rows[--n]);
                tm_emit(c);
            }
        }
    }
}

TIDEMILL_GROUPER(open_grouper, process_grouper)

// ---- updater: count and last, as state ----

static void open_updater(tm_open *o) {
    configure(o);
    refuse_own(o, "rows");
    refuse_own(o, "timed_out");
    tm_read_all(o, 0);
    tm_keep_state(o, "rows", "int64");
    keep_all(o);
    tm_write(o, "rows", "int64");
    tm_write(o, "timed_out", "boolean");
    write_all(o);
}

static void put_out(tm_call *c, int64_t rows, const tm_batch *from, uint32_t first, uint32_t row) {
    tm_put_i64(tm_out(c, 0), rows);
    tm_put_bool(tm_out(c, 1), c->timed_out);
    put_row(&c->out, 2, from, first, row);
    tm_emit(c);
}

static void update(tm_call *c) {
    begin(c, c->in[0].n_rows);
    while (tm_next_group(c)) {
        int64_t before = c->has_state ? tm_state_i64(c, 0) : 0, n = 0;
        uint32_t last = 0;
        if (c->timed_out) {
            put_out(c, before, &c->state, 1, c->state_row);
            tm_remove_state(c);
            continue;
        }
        while (tm_next_row(c)) {
            if (rejects(c->row)) {
                tm_reject(c, "row %u is rejected", c->row);
            } else {
                last = c->row;
                n++;
            }
        }
        if (n) {
            put_out(c, before + n, &c->in[0], 0, last);
            if (has_remove_at && before + n >= remove_at) {
                tm_remove_state(c);
            } else {
                tm_put_i64(tm_new_state(c, 0), before + n);
                put_row(&c->new_state, 1, &c->in[0], 0, last);
                tm_set_state(c);
                if (has_timeout && timeouts == 1) tm_set_timeout_after(c, timeout_us);
                if (has_timeout && timeouts == 2) tm_set_timeout(c, (c->has_watermark ? c->watermark_us : 0) + timeout_us);
            }
        } else if (!c->n_rows && c->has_state) {
            put_out(c, before, &c->state, 1, c->state_row);
        }
    }
}

TIDEMILL_UPDATER(open_updater, update)
