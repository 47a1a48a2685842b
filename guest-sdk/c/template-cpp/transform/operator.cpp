// Splits lines into words, and counts where each stands.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

#include <string>

using namespace tidemill;

struct Operator {
    Read<std::optional<std::string_view>> value;
    Write<std::string_view> word;
    Write<int64_t> position;
    bool lowercase;
    std::string small;

    explicit Operator(Open &open)
        : value(open, "value"), word(open, "word"), position(open, "position"),
          lowercase(open.config_or<bool>("lowercase", false)) {}

    void process(Call &call) {
        for (Row row : call.rows()) {
            auto line = row[value];
            if (!line) {
                call.reject("`value` is null");
                continue;
            }
            int64_t n = 0;
            for (auto next : words(*line)) call.emit(word, lowercase ? lower(next) : next, position, n++);
        }
    }

    /// The text with ASCII letters in lower case.
    std::string_view lower(std::string_view text) {
        small = text;
        for (char &letter : small) {
            if (letter >= 'A' && letter <= 'Z') letter = char(letter + ('a' - 'A'));
        }
        return small;
    }
};

TIDEMILL_TRANSFORM_CLASS(Operator)
