// Combines sales: how many, how much, and the highest.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

#include <algorithm>

using namespace tidemill;

struct Operator {
    Combine<int64_t> count, amount, highest;

    explicit Operator(Open &open) : count(open, "count"), amount(open, "amount"), highest(open, "highest") {}

    void reduce(Call &call) {
        for (Group group : call.groups()) {
            int64_t n = 0, sum = 0, most = INT64_MIN;
            for (Row row : group.rows()) {
                n += row[count];
                sum += row[amount];
                most = std::max(most, row[highest]);
            }
            call.put(count, n);
            call.put(amount, sum);
            call.put(highest, most);
        }
    }
};

TIDEMILL_REDUCER_CLASS(Operator)
