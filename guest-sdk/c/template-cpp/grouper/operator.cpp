// The pages of a visitor in the order of time, each with the time since the one before.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

#include <algorithm>
#include <vector>

using namespace tidemill;

struct Operator {
    Read<int64_t> at;
    Read<std::optional<std::string_view>> page;
    Write<int64_t> out_at;
    Write<std::optional<std::string_view>> out_page;
    Write<std::optional<int64_t>> since;

    explicit Operator(Open &open)
        : at(open, "at"), page(open, "page"), out_at(open, "at"), out_page(open, "page"), since(open, "since") {}

    void process(Call &call) {
        std::vector<Row> visits;
        for (Group group : call.groups()) {
            visits.clear();
            for (Row row : group.rows()) visits.push_back(row);
            // Visits of the same time stay in the order in which they came.
            std::stable_sort(visits.begin(), visits.end(), [this](Row a, Row b) { return a[at] < b[at]; });
            std::optional<int64_t> before;
            for (Row row : visits) {
                auto passed = before ? std::optional(row[at] - *before) : std::nullopt;
                call.emit(out_at, row[at], out_page, row[page], since, passed);
                before = row[at];
            }
        }
    }
};

TIDEMILL_GROUPER_CLASS(Operator)
