// Combines sales: how many, how much, and the highest.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t count, amount, highest; // the numbers of columns

static void open(tm_open *o) {
    count = tm_read(o, "count", "int64");
    amount = tm_read(o, "amount", "int64");
    highest = tm_read(o, "highest", "int64");
}

// One row for each group, in the same columns.
static void reduce(tm_call *c) {
    while (tm_next_group(c)) {
        int64_t n = 0, sum = 0, most = INT64_MIN;
        while (tm_next_row(c)) {
            n += tm_row_i64(c, count);
            sum += tm_row_i64(c, amount);
            if (tm_row_i64(c, highest) > most) most = tm_row_i64(c, highest);
        }
        tm_put_i64(tm_out(c, count), n);
        tm_put_i64(tm_out(c, amount), sum);
        tm_put_i64(tm_out(c, highest), most);
    }
}

TIDEMILL_REDUCER(open, reduce)
