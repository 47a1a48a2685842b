//! The transform of the conformance operator in Zig: see docs/conformance.md.

const std = @import("std");
const tidemill = @import("tidemill");
const c = tidemill.c;

const Echo = struct {
    fail: []const u8,
    reject_every: u64,
    repeat: usize,
    by_rows: bool,
    diagnostics: bool,
    carry: bool,

    pub fn open(o: tidemill.Open) Echo {
        const refuse = o.configOr([]const u8, "refuse", "");
        if (std.mem.eql(u8, refuse, "config")) o.refuseConfig("refused as asked");
        if (std.mem.eql(u8, refuse, "schema")) o.refuseSchema("refused as asked");
        if (std.mem.eql(u8, refuse, "other")) c.tm_refuse(o.c, "refused as asked");
        // Other roles have these.
        for ([_][:0]const u8{ "invertible", "every-key", "timeouts", "timeout-us", "remove-at" }) |key| {
            _ = c.tm_config_json(o.c, key);
        }
        const self = Echo{
            .fail = o.configOr([]const u8, "fail", ""),
            .reject_every = @intCast(o.configOr(i64, "reject-every", 0)),
            .repeat = @intCast(o.configOr(i64, "repeat", 1)),
            .by_rows = std.mem.eql(u8, o.configOr([]const u8, "by", "columns"), "rows"),
            .diagnostics = o.configOr(bool, "diagnostics", false),
            .carry = o.configOr(bool, "carry", false),
        };
        c.tm_tell_origin(o.c);
        if (self.carry) {
            o.carryAll();
            return self;
        }
        c.tm_read_all(o.c, 0);
        const input = o.c.inputs[0];
        var i: usize = 0;
        while (i < input.n_fields) : (i += c.tm_field_size(input.fields + i)) {
            _ = c.tm_write_like(o.c, input.fields[i].name, input.fields + i);
        }
        return self;
    }

    pub fn process(self: *Echo, call: tidemill.Call) void {
        const n_rows = call.nRows();
        if (self.diagnostics) {
            c.tm_log(c.TM_INFO, "conform: %u rows", n_rows);
            tidemill.count("conform_rows", n_rows);
            tidemill.gauge("conform_last", @floatFromInt(n_rows));
        }
        if (std.mem.eql(u8, self.fail, "retry")) call.failForNow("failed as asked");
        if (std.mem.eql(u8, self.fail, "fatal")) call.fail("failed as asked");
        while (call.nextRow()) {
            const number = call.c.first_row + call.c.row;
            if (self.reject_every > 0 and number % self.reject_every == self.reject_every - 1) {
                c.tm_reject(call.c, "row %llu is rejected", @as(c_ulonglong, number));
                continue;
            }
            for (0..self.repeat) |_| {
                const in = call.c.in[0];
                for (0..in.n_columns) |i| self.put(call.c.out.columns + i, in.columns + i, call.c.row);
                call.emit();
            }
        }
    }

    fn put(self: *Echo, to: *c.tm_builder, from: *const c.tm_column, row: u32) void {
        if (!self.by_rows) return c.tm_put_value(to, from, row);
        const types = .{
            .{ c.TM_BOOLEAN, bool },        .{ c.TM_INT8, i8 },                   .{ c.TM_INT16, i16 },
            .{ c.TM_INT32, i32 },           .{ c.TM_INT64, i64 },                 .{ c.TM_UINT8, u8 },
            .{ c.TM_UINT16, u16 },          .{ c.TM_UINT32, u32 },                .{ c.TM_UINT64, u64 },
            .{ c.TM_FLOAT32, f32 },         .{ c.TM_FLOAT64, f64 },               .{ c.TM_UTF8, []const u8 },
            .{ c.TM_BINARY, tidemill.Bytes }, .{ c.TM_DATE32, tidemill.Date },
            .{ c.TM_TIMESTAMP, tidemill.Timestamp }, .{ c.TM_DURATION, tidemill.Duration },
        };
        inline for (types) |of| {
            if (from.field.*.type == of[0]) return tidemill.put(?of[1], to, tidemill.get(?of[1], from, row));
        }
        // Zig has no types of its own for the others.
        c.tm_put_value(to, from, row);
    }
};

comptime {
    tidemill.transform(Echo);
}
