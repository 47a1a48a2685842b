// The pages of a visitor in the order of time, each with the time since the one before.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t at, page;                  // what is read
static uint32_t out_at, out_page, since;   // what is written

static void open(tm_open *o) {
    at = tm_read(o, "at", "int64");
    page = tm_read(o, "page", "utf8?");
    out_at = tm_write(o, "at", "int64");
    out_page = tm_write(o, "page", "utf8?");
    since = tm_write(o, "since", "int64?");
}

// Sorts rows by their time. Those of the same time stay in the order in which they came.
static void sort(const int64_t *times, uint32_t *rows, uint32_t *spare, uint32_t n) {
    if (n < 2) return;
    uint32_t half = n / 2, left = 0, right = half;
    sort(times, rows, spare, half);
    sort(times, rows + half, spare, n - half);
    for (uint32_t i = 0; i < n; i++) {
        bool from_left = right == n || (left < half && times[rows[left]] <= times[rows[right]]);
        spare[i] = rows[from_left ? left++ : right++];
    }
    for (uint32_t i = 0; i < n; i++) rows[i] = spare[i];
}

static void process(tm_call *c) {
    const int64_t *times = tm_values_i64(tm_in(c, at));
    while (tm_next_group(c)) {
        uint32_t n = 0, *rows = tm_alloc(c->n_rows * sizeof *rows), *spare = tm_alloc(c->n_rows * sizeof *rows);
        while (tm_next_row(c)) rows[n++] = c->row;
        sort(times, rows, spare, n);
        for (uint32_t i = 0; i < n; i++) {
            tm_put_i64(tm_out(c, out_at), times[rows[i]]);
            tm_put_value(tm_out(c, out_page), tm_in(c, page), rows[i]);
            if (i) tm_put_i64(tm_out(c, since), times[rows[i]] - times[rows[i - 1]]);
            else tm_put_null(tm_out(c, since));
            tm_emit(c);
        }
    }
}

TIDEMILL_GROUPER(open, process)
