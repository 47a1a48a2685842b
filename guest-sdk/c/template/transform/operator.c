// Splits lines into words, and counts where each stands.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t value, word, position; // the numbers of columns
static bool lowercase;

static void open(tm_open *o) {
    value = tm_read(o, "value", "utf8?");
    word = tm_write(o, "word", "utf8");
    position = tm_write(o, "position", "int64");
    lowercase = tm_config_bool_or(o, "lowercase", false);
}

// The text with ASCII letters in lower case.
static tm_text lower(tm_text text) {
    char *small = tm_alloc(text.size);
    for (size_t i = 0; i < text.size; i++) {
        char letter = text.data[i];
        small[i] = letter >= 'A' && letter <= 'Z' ? letter + ('a' - 'A') : letter;
    }
    return tm_bytes(small, text.size);
}

static void process(tm_call *c) {
    while (tm_next_row(c)) {
        if (tm_row_is_null(c, value)) {
            tm_reject(c, "`value` is null");
            continue;
        }
        tm_text rest = tm_row_text(c, value), next;
        if (lowercase) rest = lower(rest);
        for (int64_t n = 0; tm_next_word(&rest, &next); n++) {
            tm_put_text(tm_out(c, word), next);
            tm_put_i64(tm_out(c, position), n);
            tm_emit(c);
        }
    }
}

TIDEMILL_TRANSFORM(open, process)
