//! Splits lines into words, and counts where each stands.

const std = @import("std");
const tidemill = @import("tidemill");

const Operator = struct {
    value: tidemill.Read(?[]const u8),
    word: tidemill.Write([]const u8),
    position: tidemill.Write(i64),
    lowercase: bool,

    pub fn open(o: tidemill.Open) Operator {
        return .{
            .value = .of(o, "value"),
            .word = .of(o, "word"),
            .position = .of(o, "position"),
            .lowercase = o.configOr(bool, "lowercase", false),
        };
    }

    pub fn process(self: *Operator, call: tidemill.Call) void {
        while (call.nextRow()) {
            const line = call.row(self.value) orelse {
                call.reject("`value` is null");
                continue;
            };
            var words = tidemill.words(if (self.lowercase) lower(call, line) else line);
            var n: i64 = 0;
            while (words.next()) |word| : (n += 1) {
                call.put(self.word, word);
                call.put(self.position, n);
                call.emit();
            }
        }
    }

    /// The text with ASCII letters in lower case.
    fn lower(call: tidemill.Call, text: []const u8) []const u8 {
        return std.ascii.lowerString(call.alloc(u8, text.len), text);
    }
};

comptime {
    tidemill.transform(Operator);
}
