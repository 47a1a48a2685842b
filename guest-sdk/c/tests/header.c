// Tests of tidemill.h as a program of this machine: what needs no host.

#define TIDEMILL_IMPLEMENTATION
#include "../tidemill.h"

#include <math.h>
#include <string.h>

static int n_checks;

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        n_checks++;                                                                       \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static bool is(tm_text found, const char *expected) {
    if (tm_same(found, tm_str(expected))) return true;
    fprintf(stderr, "`%.*s` is not `%s`\n", (int)found.size, found.data, expected);
    return false;
}

static void types_are_written_as_they_are_read(void) {
    static const char *const types[] = {
        "boolean", "int8", "uint64", "float32", "utf8", "binary", "fixed(16)", "date32", "timestamp", "timestamp(ns)",
        "timestamp(ms, Europe/Berlin)", "timestamp(us, no zone)", "duration", "duration(s)", "decimal(10, -2)", "list<timestamp>",
        "struct<a: int64, b: list<utf8>>", "map<utf8, decimal(38, 0)>", "null", "struct<>",
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        tm__fields fields = { 0 };
        const char *at = types[i];
        CHECK(tm__parse_type(&fields, tm_str("x"), &at) && !*at && is(tm_type_text(fields.fields), types[i]));
        CHECK(tm_field_size(fields.fields) == fields.n_fields);
    }
    static const char *const wrong[] = { "int", "decimal", "decimal(10)", "list<>", "list<int8", "map<utf8>", "fixed", "int8(3)", "timestamp(h)", "" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tm__fields fields = { 0 };
        const char *at = wrong[i];
        CHECK(!tm__parse_type(&fields, tm_str("x"), &at) || *at);
    }
}

static void texts_are_formatted(void) {
    CHECK(is(tm_format("%s %.*s %c %d %u %x", "a", 2, "bcd", 'e', -12, 34u, 255u), "a bc e -12 34 ff"));
    CHECK(is(tm_format("%lld %llu %zu %%", -9223372036854775807ll - 1, 18446744073709551615ull, (size_t)7), "-9223372036854775808 18446744073709551615 7 %"));
    CHECK(is(tm_format("%g %g %g", 1.5, -0.25, 3.0), "1.5 -0.25 3"));
    CHECK(is(tm_format("%f %.1f", 0.5, 9.96), "0.500000 10.0"));
}

static void durations_are_those_of_job_files(void) {
    int64_t us;
    CHECK(tm_parse_duration_us(tm_str("1h30m"), &us) && us == 5400000000);
    CHECK(tm_parse_duration_us(tm_str("1.5s"), &us) && us == 1500000);
    CHECK(tm_parse_duration_us(tm_str("250ms"), &us) && us == 250000);
    CHECK(tm_parse_duration_us(tm_str("0"), &us) && us == 0);
    CHECK(!tm_parse_duration_us(tm_str("5"), &us) && !tm_parse_duration_us(tm_str("1m1h"), &us) && !tm_parse_duration_us(tm_str(""), &us));
    CHECK(!tm_parse_duration_us(tm_str("1.s"), &us) && !tm_parse_duration_us(tm_str("9999999999d"), &us));
}

static void json_is_read(void) {
    tm_json json = tm_str(" {\"a\": [1, -2.5e3, \"x\\n\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": true}, \"d\" : null}");
    double number;
    int64_t whole;
    tm_text text;
    CHECK(tm_json_i64(tm_json_item(tm_json_get(json, "a"), 0), &whole) && whole == 1);
    CHECK(tm_json_f64(tm_json_item(tm_json_get(json, "a"), 1), &number) && number == -2500);
    CHECK(tm_json_text(tm_json_item(tm_json_get(json, "a"), 2), &text) && is(text, "x\n\xc3\xa9\xf0\x9f\x98\x80"));
    CHECK(!tm_json_item(tm_json_get(json, "a"), 3).size && !tm_json_get(json, "c").size);
    CHECK(tm_json_kind(tm_json_get(tm_json_get(json, "b"), "c")) == 't' && tm_json_kind(tm_json_get(json, "d")) == 'n');
    CHECK(tm_json_f64(tm_str("0.1"), &number) && number == 0.1);
    CHECK(tm_json_f64(tm_str("123456789012345e-22"), &number) && fabs(number / 123456789012345e-22 - 1) < 1e-15);
    CHECK(!tm_json_i64(tm_str("9223372036854775808"), &whole) && tm_json_i64(tm_str("-9223372036854775808"), &whole));
}

// The same, one byte after the other.
static bool next_word(tm_text *rest, tm_text *word) {
    size_t i = 0, start;
    while (i < rest->size && strchr(" \t\n\f\r", rest->data[i])) i++;
    start = i;
    while (i < rest->size && !strchr(" \t\n\f\r", rest->data[i])) i++;
    *word = tm_bytes(rest->data + start, i - start);
    *rest = tm_bytes(rest->data + i, rest->size - i);
    return i > start;
}

static void words_stand_between_white_space(void) {
    char text[200];
    uint64_t state = 7;
    for (int round = 0; round < 3000; round++) {
        size_t n = (size_t)round % sizeof text;
        for (size_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            // Bytes beyond ASCII, and those beside white space, among letters.
            text[i] = "aaaaaaaaaaaaaabb \t\n\v\f\r\x0e\x08\x1f!\xa0\x85\xc3\x89\x20z"[state >> 59];
            if (!text[i]) text[i] = 'q';
        }
        tm_text a = tm_bytes(text, n), b = a, found, expected;
        bool more;
        do {
            more = tm_next_word(&a, &found);
            CHECK(more == next_word(&b, &expected) && found.data == expected.data && found.size == expected.size);
        } while (more);
    }
}

// A transform that writes what it reads, of nested types, and says what each call is to do.
static uint32_t columns[4];
static bool forgets;

static void open_echo(tm_open *o) {
    columns[0] = tm_read(o, "id", "int64");
    columns[1] = tm_read(o, "tags", "list<utf8>?");
    columns[2] = tm_read(o, "place", "struct<x: float64, flags: list<boolean>>?");
    columns[3] = tm_read(o, "names", "map<utf8, int32>?");
    tm_write(o, "id", "int64");
    tm_write(o, "tags", "list<utf8?>?");
    tm_write(o, "place", "struct<x: float64?, flags: list<boolean>?>?");
    tm_write(o, "names", "map<utf8, int32?>?");
    tm_carry_all(o);
    tm_config_bool_or(o, "known", false);
}

static void process_echo(tm_call *c) {
    while (tm_next_row(c)) {
        for (int i = 0; i < 4 - forgets; i++) tm_put_value(tm_out(c, (uint32_t)i), tm_in(c, columns[i]), c->row);
        tm_emit(c);
    }
}

TIDEMILL_TRANSFORM(open_echo, process_echo)

static const tm__opened_result *opened(const char *input, const char *config) {
    tm__fields fields = { 0 };
    const char *at = input;
    CHECK(tm__parse_type(&fields, tm_str("input"), &at));
    return tm__transform_open("job", 3, "step", 4, 2, config, strlen(config), fields.fields + 1, fields.n_fields - 1);
}

static void what_does_not_fit_is_refused(void) {
    const tm__opened_result *result = opened("struct<id: utf8?>", "{}");
    CHECK(result->is_err && result->of.refusal.kind == 1 && is(result->of.refusal.reason, "column `id` is utf8, int64 is expected"));
    result = opened("struct<number: int64?>", "{}");
    CHECK(result->is_err && is(result->of.refusal.reason, "column `id` is missing, int64 is expected"));
    const char *fits = "struct<id: int64?, other: utf8, tags: list<utf8?>?, place: struct<x: float64?, flags: list<boolean>?>?, names: map<utf8, int32?>>";
    result = opened(fits, "{\"unknown\": 1}");
    CHECK(result->is_err && result->of.refusal.kind == 0 && is(result->of.refusal.reason, "unknown field `unknown`, expected `known`"));
    result = opened(fits, "{\"known\": 1}");
    CHECK(result->is_err && is(result->of.refusal.reason, "`known` is 1, and has to be true or false"));
    result = opened(fits, "{\"known\": null}");
    CHECK(!result->is_err && result->of.transform.reads.list.n == 4 && result->of.transform.carries.is_some == 1);
    CHECK(result->of.transform.writes.n == 11);
}

// What was built comes back as it went in, and nulls stay where they were.
static void rows_come_through_whole(void) {
    enum { N = 300 };
    tm__fields fields = { 0 };
    const char *at = "struct<id: int64?, tags: list<utf8?>?, place: struct<x: float64?, flags: list<boolean>?>?, names: map<utf8, int32?>?>";
    CHECK(tm__parse_type(&fields, tm_str("input"), &at));
    tm__fields columns_of = { fields.fields + 1, fields.n_fields - 1, 4, 0 };
    tm_table table = { 0 };
    tm__make_table(&table, columns_of);
    tm_call none = { 0 };
    tm__current = &none;
    tm__reset_table(&table);
    for (uint32_t i = 0; i < N; i++) {
        tm_builder *id = &table.columns[0], *tags = &table.columns[1], *place = &table.columns[2], *names = &table.columns[3];
        if (i % 50 == 49) tm_put_null(id);
        else tm_put_i64(id, i);
        if (i % 3 == 2) {
            tm_put_null(tags);
        } else {
            for (uint32_t j = 0; j < i % 4; j++) {
                if (j == 1) tm_put_null(tm_item(tags));
                else tm_put_text(tm_item(tags), tm_format("tag %u of a row that is number %u", j, i));
            }
            tm_put_list(tags);
        }
        if (i % 7 == 6) {
            tm_put_null(place);
        } else {
            tm_put_f64(tm_part(place, 0), i / 2.0);
            tm_put_bool(tm_item(tm_part(place, 1)), i % 2);
            tm_put_list(tm_part(place, 1));
            tm_put_struct(place);
        }
        tm_put_str(tm_map_key(names), "k");
        if (i % 2) tm_put_null(tm_map_value(names));
        else tm_put_i32(tm_map_value(names), (int32_t)i);
        tm_put_entry(names);
        tm_put_map(names);
        table.n_rows++;
    }
    tm__batch batch = tm__finish(&none, &table);
    CHECK(!none.failure && batch.n_nodes == 11);
    const tm__call_result *result = tm__transform_process(4, 5, 1, 0, 100, 1, 6, batch.rows, batch.nodes, batch.n_nodes, batch.buffers, batch.n_buffers);
    CHECK(!result->is_err && result->of.transform.rows.rows == N - 6 && result->of.transform.rejected.n == 6);
    const tm__rejection *rejected = (const tm__rejection *)result->of.transform.rejected.items;
    CHECK(rejected[0].row == 49 && is(rejected[0].reason, "column `id` is null"));
    const uint32_t *origin = (const uint32_t *)result->of.transform.origin.list.items;
    tm_batch rows = tm__lift_fields(&result->of.transform.rows, &tm__opened->writes);
    for (uint32_t row = 0; row < rows.n_rows; row++) {
        uint32_t i = (uint32_t)tm_get_i64(&rows.columns[0], row);
        const tm_column *tags = &rows.columns[1], *place = &rows.columns[2], *names = &rows.columns[3];
        CHECK(origin[row] == i && tm_is_null(tags, row) == (i % 3 == 2) && tm_is_null(place, row) == (i % 7 == 6));
        tm_range range = tm_get_list(tags, row);
        CHECK(range.end - range.start == (i % 3 == 2 ? 0 : i % 4));
        for (uint32_t j = range.start; j < range.end; j++) {
            bool null = tm_is_null(tm_items(tags), j);
            CHECK(null == (j - range.start == 1));
            CHECK(null || tm_same(tm_get_text(tm_items(tags), j), tm_format("tag %u of a row that is number %u", j - range.start, i)));
        }
        if (i % 7 != 6) {
            tm_range flags = tm_get_list(tm_child(place, 1), row);
            CHECK(tm_get_f64(tm_child(place, 0), row) == i / 2.0 && flags.end - flags.start == 1);
            CHECK(tm_get_bool(tm_items(tm_child(place, 1)), flags.start) == i % 2);
        }
        range = tm_get_list(names, row);
        CHECK(range.end - range.start == 1 && is(tm_get_text(tm_map_keys(names), range.start), "k"));
        CHECK(tm_is_null(tm_map_values(names), range.start) == i % 2);
    }
    forgets = true;
    result = tm__transform_process(4, 5, 1, 0, 100, 1, 6, batch.rows, batch.nodes, batch.n_nodes, batch.buffers, batch.n_buffers);
    CHECK(result->is_err && is(result->of.failure.reason, "column `names` was given 0 values for 294 rows"));
    result = tm__transform_process(4, 5, 1, 0, 100, 1, 6, 0, NULL, 0, NULL, 0);
    CHECK(!result->is_err && result->of.transform.rows.rows == 0 && result->of.transform.rows.n_nodes == 0);
}

static void memory_is_used_again(void) {
    size_t total = 0;
    for (int call = 0; call < 100; call++) {
        tm_buffer a = { 0 }, b = { 0 };
        for (int i = 0; i < 20000; i++) {
            tm__append(&a, &i, sizeof i);
            tm__append(&b, &call, sizeof call);
        }
        int first, last;
        memcpy(&first, a.data, sizeof first);
        memcpy(&last, a.data + a.size - sizeof last, sizeof last);
        CHECK(first == 0 && last == 19999 && b.size == 80000 && (uintptr_t)a.data % 16 == 0);
        if (call == 1) total = tm__scratch.total;
        CHECK(call < 2 || tm__scratch.total == total);
        tm__end();
    }
}

int main(void) {
    types_are_written_as_they_are_read();
    texts_are_formatted();
    durations_are_those_of_job_files();
    json_is_read();
    words_stand_between_white_space();
    what_does_not_fit_is_refused();
    rows_come_through_whole();
    memory_is_used_again();
    printf("%d checks passed\n", n_checks);
    return 0;
}
