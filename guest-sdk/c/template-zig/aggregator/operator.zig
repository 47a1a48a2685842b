//! The mean of readings. Those that are null are left out.

const tidemill = @import("tidemill");

const Operator = struct {
    degrees: tidemill.Read(?f64),
    sum: tidemill.Keep(f64),
    counted: tidemill.Keep(i64),
    mean: tidemill.Write(?f64),
    readings: tidemill.Write(i64),

    pub fn open(o: tidemill.Open) Operator {
        return .{
            .degrees = .of(o, "degrees"),
            .sum = .of(o, "sum"),
            .counted = .of(o, "readings"),
            .mean = .of(o, "mean"),
            .readings = .of(o, "readings"),
        };
    }

    /// The accumulator of each group of rows.
    pub fn accumulate(self: *Operator, call: tidemill.Call) void {
        while (call.nextGroup()) {
            var total: f64 = 0;
            var n: i64 = 0;
            while (call.nextRow()) {
                if (call.row(self.degrees)) |reading| {
                    total += reading;
                    n += 1;
                }
            }
            call.put(self.sum, total);
            call.put(self.counted, n);
        }
    }

    /// The accumulator of each group of accumulators.
    pub fn merge(self: *Operator, call: tidemill.Call) void {
        while (call.nextGroup()) {
            var total: f64 = 0;
            var n: i64 = 0;
            while (call.nextRow()) {
                total += call.row(self.sum);
                n += call.row(self.counted);
            }
            call.put(self.sum, total);
            call.put(self.counted, n);
        }
    }

    /// The result of each accumulator.
    pub fn finish(self: *Operator, call: tidemill.Call) void {
        while (call.nextRow()) {
            const n = call.row(self.counted);
            call.put(self.mean, if (n == 0) null else call.row(self.sum) / @as(f64, @floatFromInt(n)));
            call.put(self.readings, n);
        }
    }
};

comptime {
    tidemill.aggregator(Operator);
}
