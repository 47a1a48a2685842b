// Keeps the balance of each account, until it is closed.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

using namespace tidemill;

struct Operator {
    Read<int64_t> amount;
    Read<std::optional<bool>> close;
    Keep<int64_t> kept_balance, kept_entries;
    Write<int64_t> balance, entries;
    Write<bool> closed;

    explicit Operator(Open &open)
        : amount(open, "amount"), close(open, "close"), kept_balance(open, "balance"), kept_entries(open, "entries"),
          balance(open, "balance"), entries(open, "entries"), closed(open, "closed") {}

    void update(Call &call) {
        for (Group account : call.groups()) {
            int64_t sum = account.has_state() ? account[kept_balance] : 0;
            int64_t n = account.has_state() ? account[kept_entries] : 0;
            bool closes = false;
            for (Row row : account.rows()) {
                sum += row[amount];
                n++;
                closes = closes || row[close].value_or(false);
            }
            if (closes) call.remove_state();
            else call.set_state(kept_balance, sum, kept_entries, n);
            call.emit(balance, sum, entries, n, closed, closes);
        }
    }
};

TIDEMILL_UPDATER_CLASS(Operator)
