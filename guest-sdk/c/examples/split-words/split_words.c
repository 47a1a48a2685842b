// Splits lines into words: what stands between ASCII white space, as plugins/split-words does without `lowercase`.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"

static uint32_t value, word;

static void open(tm_open *o) {
    value = tm_read(o, "value", "utf8");
    word = tm_write(o, "word", "utf8");
}

static void process(tm_call *c) {
    tm_builder *words = tm_out(c, word);
    while (tm_next_row(c)) {
        tm_text rest = tm_row_text(c, value), next;
        while (tm_next_word(&rest, &next)) {
            tm_put_text(words, next);
            tm_emit(c);
        }
    }
}

TIDEMILL_TRANSFORM(open, process)
