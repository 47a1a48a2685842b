// The mean of readings. Those that are null are left out.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

using namespace tidemill;

struct Operator {
    Read<std::optional<double>> degrees;
    Keep<double> sum;
    Keep<int64_t> counted;
    Write<std::optional<double>> mean;
    Write<int64_t> readings;

    explicit Operator(Open &open)
        : degrees(open, "degrees"), sum(open, "sum"), counted(open, "readings"), mean(open, "mean"),
          readings(open, "readings") {}

    /// The accumulator of each group of rows.
    void accumulate(Call &call) {
        for (Group group : call.groups()) {
            double total = 0;
            int64_t n = 0;
            for (Row row : group.rows()) {
                if (auto reading = row[degrees]) {
                    total += *reading;
                    n++;
                }
            }
            call.put(sum, total);
            call.put(counted, n);
        }
    }

    /// The accumulator of each group of accumulators.
    void merge(Call &call) {
        for (Group group : call.groups()) {
            double total = 0;
            int64_t n = 0;
            for (Row row : group.rows()) {
                total += row[sum];
                n += row[counted];
            }
            call.put(sum, total);
            call.put(counted, n);
        }
    }

    /// The result of each accumulator.
    void finish(Call &call) {
        for (Row row : call.rows()) {
            int64_t n = row[counted];
            call.put(mean, n ? std::optional(row[sum] / double(n)) : std::nullopt);
            call.put(readings, n);
        }
    }
};

TIDEMILL_AGGREGATOR_CLASS(Operator)
