// Keeps the balance of each account, until it is closed.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t amount, close;                // what is read of a row
static uint32_t kept_balance, kept_entries;   // the state
static uint32_t balance, entries, closed;     // what is written

static void open(tm_open *o) {
    amount = tm_read(o, "amount", "int64");
    close = tm_read(o, "close", "boolean?");
    kept_balance = tm_keep_state(o, "balance", "int64");
    kept_entries = tm_keep_state(o, "entries", "int64");
    balance = tm_write(o, "balance", "int64");
    entries = tm_write(o, "entries", "int64");
    closed = tm_write(o, "closed", "boolean");
}

static void update(tm_call *c) {
    while (tm_next_group(c)) {
        int64_t sum = c->has_state ? tm_state_i64(c, kept_balance) : 0;
        int64_t n = c->has_state ? tm_state_i64(c, kept_entries) : 0;
        bool closes = false;
        while (tm_next_row(c)) {
            sum += tm_row_i64(c, amount);
            n++;
            if (!tm_row_is_null(c, close) && tm_row_bool(c, close)) closes = true;
        }
        if (closes) {
            tm_remove_state(c);
        } else {
            tm_put_i64(tm_new_state(c, kept_balance), sum);
            tm_put_i64(tm_new_state(c, kept_entries), n);
            tm_set_state(c);
        }
        tm_put_i64(tm_out(c, balance), sum);
        tm_put_i64(tm_out(c, entries), n);
        tm_put_bool(tm_out(c, closed), closes);
        tm_emit(c);
    }
}

TIDEMILL_UPDATER(open, update)
