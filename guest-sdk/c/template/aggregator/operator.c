// The mean of readings. Those that are null are left out.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t degrees;        // what is read
static uint32_t sum, counted;   // the accumulator
static uint32_t mean, readings; // the result

static void open(tm_open *o) {
    degrees = tm_read(o, "degrees", "float64?");
    sum = tm_keep_state(o, "sum", "float64");
    counted = tm_keep_state(o, "readings", "int64");
    mean = tm_write(o, "mean", "float64?");
    readings = tm_write(o, "readings", "int64");
}

// The accumulator of each group of rows.
static void accumulate(tm_call *c) {
    while (tm_next_group(c)) {
        double total = 0;
        int64_t n = 0;
        while (tm_next_row(c)) {
            if (tm_row_is_null(c, degrees)) continue;
            total += tm_row_f64(c, degrees);
            n++;
        }
        tm_put_f64(tm_out(c, sum), total);
        tm_put_i64(tm_out(c, counted), n);
    }
}

// The accumulator of each group of accumulators.
static void merge(tm_call *c) {
    while (tm_next_group(c)) {
        double total = 0;
        int64_t n = 0;
        while (tm_next_row(c)) {
            total += tm_row_f64(c, sum);
            n += tm_row_i64(c, counted);
        }
        tm_put_f64(tm_out(c, sum), total);
        tm_put_i64(tm_out(c, counted), n);
    }
}

// The result of each accumulator.
static void finish(tm_call *c) {
    while (tm_next_row(c)) {
        int64_t n = tm_row_i64(c, counted);
        if (n) tm_put_f64(tm_out(c, mean), tm_row_f64(c, sum) / (double)n);
        else tm_put_null(tm_out(c, mean));
        tm_put_i64(tm_out(c, readings), n);
    }
}

TIDEMILL_AGGREGATOR(open, accumulate, merge, finish)
