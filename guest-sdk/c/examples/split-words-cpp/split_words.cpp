// Splits lines into words: what stands between ASCII white space, as plugins/split-words does without `lowercase`.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

struct SplitWords {
    tidemill::Read<std::string_view> value;
    tidemill::Write<std::string_view> word;

    explicit SplitWords(tidemill::Open &open) : value(open, "value"), word(open, "word") {}

    void process(tidemill::Call &call) {
        for (auto row : call.rows()) {
            for (auto next : tidemill::words(row[value])) call.emit(word, next);
        }
    }
};

TIDEMILL_TRANSFORM_CLASS(SplitWords)
