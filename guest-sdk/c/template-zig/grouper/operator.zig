//! The pages of a visitor in the order of time, each with the time since the one before.

const std = @import("std");
const tidemill = @import("tidemill");

const Operator = struct {
    at: tidemill.Read(i64),
    page: tidemill.Read(?[]const u8),
    out_at: tidemill.Write(i64),
    out_page: tidemill.Write(?[]const u8),
    since: tidemill.Write(?i64),

    pub fn open(o: tidemill.Open) Operator {
        return .{
            .at = .of(o, "at"),
            .page = .of(o, "page"),
            .out_at = .of(o, "at"),
            .out_page = .of(o, "page"),
            .since = .of(o, "since"),
        };
    }

    const Visit = struct { at: i64, page: ?[]const u8 };

    fn earlier(_: void, a: Visit, b: Visit) bool {
        return a.at < b.at;
    }

    pub fn process(self: *Operator, call: tidemill.Call) void {
        while (call.nextGroup()) {
            const visits = call.alloc(Visit, call.nRows());
            for (visits) |*visit| {
                if (!call.nextRow()) break;
                visit.* = .{ .at = call.row(self.at), .page = call.row(self.page) };
            }
            // Visits of the same time stay in the order in which they came.
            std.sort.block(Visit, visits, {}, earlier);
            for (visits, 0..) |visit, n| {
                call.put(self.out_at, visit.at);
                call.put(self.out_page, visit.page);
                call.put(self.since, if (n == 0) null else visit.at - visits[n - 1].at);
                call.emit();
            }
        }
    }
};

comptime {
    tidemill.grouper(Operator);
}
