//! Splits lines into words: what stands between ASCII white space, as plugins/split-words does without `lowercase`.

const tidemill = @import("tidemill");

const SplitWords = struct {
    value: tidemill.Read([]const u8),
    word: tidemill.Write([]const u8),

    pub fn open(o: tidemill.Open) SplitWords {
        return .{ .value = .of(o, "value"), .word = .of(o, "word") };
    }

    pub fn process(self: *SplitWords, call: tidemill.Call) void {
        while (call.nextRow()) {
            var words = tidemill.words(call.row(self.value));
            while (words.next()) |next| {
                call.put(self.word, next);
                call.emit();
            }
        }
    }
};

comptime {
    tidemill.transform(SplitWords);
}
