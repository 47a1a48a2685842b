//! Keeps the balance of each account, until it is closed.

const tidemill = @import("tidemill");

const Operator = struct {
    amount: tidemill.Read(i64),
    close: tidemill.Read(?bool),
    kept_balance: tidemill.Keep(i64),
    kept_entries: tidemill.Keep(i64),
    balance: tidemill.Write(i64),
    entries: tidemill.Write(i64),
    closed: tidemill.Write(bool),

    pub fn open(o: tidemill.Open) Operator {
        return .{
            .amount = .of(o, "amount"),
            .close = .of(o, "close"),
            .kept_balance = .of(o, "balance"),
            .kept_entries = .of(o, "entries"),
            .balance = .of(o, "balance"),
            .entries = .of(o, "entries"),
            .closed = .of(o, "closed"),
        };
    }

    pub fn update(self: *Operator, call: tidemill.Call) void {
        while (call.nextGroup()) {
            var sum = call.state(self.kept_balance) orelse 0;
            var n = call.state(self.kept_entries) orelse 0;
            var closes = false;
            while (call.nextRow()) {
                sum += call.row(self.amount);
                n += 1;
                closes = closes or (call.row(self.close) orelse false);
            }
            if (closes) {
                call.removeState();
            } else {
                call.putState(self.kept_balance, sum);
                call.putState(self.kept_entries, n);
                call.setState();
            }
            call.put(self.balance, sum);
            call.put(self.entries, n);
            call.put(self.closed, closes);
            call.emit();
        }
    }
};

comptime {
    tidemill.updater(Operator);
}
