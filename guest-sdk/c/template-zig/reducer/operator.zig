//! Combines sales: how many, how much, and the highest.

const std = @import("std");
const tidemill = @import("tidemill");

const Operator = struct {
    count: tidemill.Read(i64),
    amount: tidemill.Read(i64),
    highest: tidemill.Read(i64),

    pub fn open(o: tidemill.Open) Operator {
        return .{ .count = .of(o, "count"), .amount = .of(o, "amount"), .highest = .of(o, "highest") };
    }

    /// One row for each group, in the same columns.
    pub fn reduce(self: *Operator, call: tidemill.Call) void {
        while (call.nextGroup()) {
            var n: i64 = 0;
            var sum: i64 = 0;
            var most: i64 = std.math.minInt(i64);
            while (call.nextRow()) {
                n += call.row(self.count);
                sum += call.row(self.amount);
                most = @max(most, call.row(self.highest));
            }
            call.put(self.count, n);
            call.put(self.amount, sum);
            call.put(self.highest, most);
        }
    }
};

comptime {
    tidemill.reducer(Operator);
}
