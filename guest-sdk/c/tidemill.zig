//! tidemill.h for Zig, with columns that know their types.
//!
//!     const tidemill = @import("tidemill");
//!
//!     const SplitWords = struct {
//!         value: tidemill.Read([]const u8),
//!         word: tidemill.Write([]const u8),
//!
//!         pub fn open(o: tidemill.Open) SplitWords {
//!             return .{ .value = .of(o, "value"), .word = .of(o, "word") };
//!         }
//!
//!         pub fn process(self: *SplitWords, call: tidemill.Call) void {
//!             while (call.nextRow()) {
//!                 var words = tidemill.words(call.row(self.value));
//!                 while (words.next()) |next| {
//!                     call.put(self.word, next);
//!                     call.emit();
//!                 }
//!             }
//!         }
//!     };
//!
//!     comptime {
//!         tidemill.transform(SplitWords);
//!     }
//!
//! An operator is a struct: `open` makes it, and a role's function in `comptime` says what else it has: `transform` (process),
//! `reducer` (reduce; `invert` when it has one), `aggregator` (accumulate, merge, finish), `grouper` (process), `updater`
//! (update). What tidemill.h says holds here; `c` is that header, for whatever this file has no name for.
//!
//! Types: bool, i8 to u64, f32, f64, []const u8 (utf8), Bytes, Date, Timestamp, Duration (both in microseconds), and ?T of each
//! for what may be null. Others are read and built through `c`.
//!
//! Licence: Apache-2.0.

const std = @import("std");

/// tidemill.h as `zig translate-c` makes it.
pub const c = @import("c");

/// Bytes that are not text.
pub const Bytes = struct { bytes: []const u8 };
/// Days since 1970-01-01.
pub const Date = struct { days: i32 };
/// Microseconds since 1970-01-01 UTC.
pub const Timestamp = struct { us: i64 };
/// Microseconds.
pub const Duration = struct { us: i64 };

fn slice(text: c.tm_text) []const u8 {
    return if (text.size == 0) "" else @as([*]const u8, @ptrCast(text.data))[0..text.size];
}

fn textOf(bytes: []const u8) c.tm_text {
    return .{ .data = @ptrCast(bytes.ptr), .size = bytes.len };
}

fn typeName(comptime T: type) [:0]const u8 {
    return switch (T) {
        bool => "boolean",
        i8 => "int8",
        i16 => "int16",
        i32 => "int32",
        i64 => "int64",
        u8 => "uint8",
        u16 => "uint16",
        u32 => "uint32",
        u64 => "uint64",
        f32 => "float32",
        f64 => "float64",
        []const u8 => "utf8",
        Bytes => "binary",
        Date => "date32",
        Timestamp => "timestamp",
        Duration => "duration",
        else => switch (@typeInfo(T)) {
            .optional => |optional| comptime typeName(optional.child) ++ "?",
            else => @compileError(@typeName(T) ++ " is no type of a column: use tidemill.c"),
        },
    };
}

/// The value of a column at a row.
pub fn get(comptime T: type, column: *const c.tm_column, at: u32) T {
    if (@typeInfo(T) == .optional) {
        return if (c.tm_is_null(column, at)) null else get(@typeInfo(T).optional.child, column, at);
    }
    return switch (T) {
        bool => c.tm_get_bool(column, at),
        []const u8 => slice(c.tm_get_text(column, at)),
        Bytes => .{ .bytes = slice(c.tm_get_text(column, at)) },
        Date => .{ .days = c.tm_get_date(column, at) },
        Timestamp, Duration => .{ .us = c.tm_get_time(column, at) },
        // `open` has checked the type: values of fixed width stand side by side.
        else => @as([*]const T, @ptrCast(@alignCast(column.values.?)))[at],
    };
}

/// Appends a value to a column.
pub fn put(comptime T: type, builder: *c.tm_builder, value: T) void {
    if (@typeInfo(T) == .optional) {
        if (value) |some| put(@typeInfo(T).optional.child, builder, some) else c.tm_put_null(builder);
        return;
    }
    switch (T) {
        bool => c.tm_put_bool(builder, value),
        []const u8 => putText(builder, value),
        Bytes => putText(builder, value.bytes),
        Date => append(i32, builder, value.days),
        Timestamp, Duration => append(i64, builder, value.us),
        else => append(T, builder, value),
    }
}

/// The same, where a method has its name.
const putInto = put;

/// Room for more bytes at a buffer's end, which are then part of it.
inline fn room(buffer: *c.tm_buffer, size: usize) [*]u8 {
    if (buffer.capacity - buffer.size < size) c.tm__grow(buffer, size);
    const at = buffer.data + buffer.size;
    buffer.size += size;
    return at;
}

inline fn counted(builder: *c.tm_builder) void {
    if (builder.null_count > 0) c.tm__put_validity(builder, true);
    builder.length += 1;
}

inline fn append(comptime T: type, builder: *c.tm_builder, value: T) void {
    @as(*T, @ptrCast(@alignCast(room(&builder.values, @sizeOf(T))))).* = value;
    counted(builder);
}

inline fn putText(builder: *c.tm_builder, value: []const u8) void {
    if (value.len <= 16) {
        // Most words are short: no call for them.
        const to = room(&builder.values, 16);
        builder.values.size -= 16 - value.len;
        c.tm__copy_short(to, value.ptr, value.len);
    } else {
        @memcpy(room(&builder.values, value.len)[0..value.len], value);
    }
    @as(*i32, @ptrCast(@alignCast(room(&builder.offsets, 4)))).* = @intCast(builder.values.size);
    counted(builder);
}

/// What `open` gets.
pub const Open = struct {
    c: *c.tm_open,

    pub fn job(self: Open) []const u8 {
        return slice(self.c.job);
    }
    pub fn step(self: Open) []const u8 {
        return slice(self.c.step);
    }

    /// A key of the configuration that has to be there; with `otherwise` it may be left out. Of bool, i64, f64, []const u8,
    /// Duration. Keys that nobody asks for are refused.
    pub fn config(self: Open, comptime T: type, key: [:0]const u8) T {
        return switch (T) {
            bool => c.tm_config_bool(self.c, key),
            i64 => c.tm_config_i64(self.c, key),
            f64 => c.tm_config_f64(self.c, key),
            []const u8 => slice(c.tm_config_text(self.c, key)),
            Duration => .{ .us = c.tm_config_duration_us(self.c, key) },
            else => @compileError(@typeName(T) ++ " is no type of a configuration: use tidemill.c"),
        };
    }
    pub fn configOr(self: Open, comptime T: type, key: [:0]const u8, otherwise: T) T {
        return switch (c.tm_json_kind(c.tm_config_json(self.c, key))) {
            0, 'n' => otherwise,
            else => self.config(T, key),
        };
    }

    pub fn refuseConfig(self: Open, reason: []const u8) void {
        c.tm_refuse_config(self.c, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
    }
    pub fn refuseSchema(self: Open, reason: []const u8) void {
        c.tm_refuse_schema(self.c, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
    }

    pub fn carryAll(self: Open) void {
        c.tm_carry_all(self.c);
    }
    pub fn carry(self: Open, name: [:0]const u8) void {
        c.tm_carry(self.c, name);
    }
    pub fn callEveryKey(self: Open) void {
        c.tm_call_every_key(self.c);
    }
    pub fn useBatchTime(self: Open) void {
        c.tm_use_batch_time(self.c);
    }
    pub fn useEventTime(self: Open) void {
        c.tm_use_event_time(self.c);
    }
};

/// A column of the input that is read. In a reducer it is written as well.
pub fn Read(comptime T: type) type {
    return struct {
        number: u32,
        input: u32 = 0,
        pub const Value = T;

        pub fn of(open: Open, name: [:0]const u8) @This() {
            return .{ .number = c.tm_read(open.c, name, typeName(T)) };
        }
        /// Of another input than the first: cogroup.
        pub fn ofInput(open: Open, input: u32, name: []const u8) @This() {
            return .{ .number = c.tm_read_of(open.c, input, textOf(name), typeName(T)), .input = input };
        }
    };
}
/// A column of the key.
pub fn Key(comptime T: type) type {
    return struct {
        number: u32,
        pub const Value = T;
        pub fn of(open: Open, name: [:0]const u8) @This() {
            return .{ .number = c.tm_key(open.c, name, typeName(T)) };
        }
    };
}
/// A column that is written.
pub fn Write(comptime T: type) type {
    return struct {
        number: u32,
        pub const Value = T;
        pub fn of(open: Open, name: [:0]const u8) @This() {
            return .{ .number = c.tm_write(open.c, name, typeName(T)) };
        }
    };
}
/// A column of an updater's state, or of an aggregator's accumulator.
pub fn Keep(comptime T: type) type {
    return struct {
        number: u32,
        pub const Value = T;
        pub fn of(open: Open, name: [:0]const u8) @This() {
            return .{ .number = c.tm_keep_state(open.c, name, typeName(T)) };
        }
    };
}

/// What a call gets and gives.
pub const Call = struct {
    c: *c.tm_call,

    /// Goes to the next row of the input, or of the group.
    pub fn nextRow(self: Call) bool {
        return c.tm_next_row(self.c);
    }
    pub fn nextRowOf(self: Call, input: u32) bool {
        return c.tm_next_row_of(self.c, input);
    }
    /// Goes to the next group, or to the next key.
    pub fn nextGroup(self: Call) bool {
        return c.tm_next_group(self.c);
    }
    /// How many rows of the group can be read.
    pub fn nRows(self: Call) u32 {
        return self.c.n_rows;
    }

    /// A value of the row, or of a row by its number. In `merge` and `finish` the columns are those of Keep().
    pub fn row(self: Call, column: anytype) @TypeOf(column).Value {
        return self.rowAt(column, self.c.row);
    }
    pub fn rowAt(self: Call, column: anytype, at: u32) @TypeOf(column).Value {
        const input = if (@hasField(@TypeOf(column), "input")) column.input else 0;
        return get(@TypeOf(column).Value, self.c.in[input].columns + column.number, at);
    }
    /// A value of the group's key.
    pub fn key(self: Call, column: anytype) @TypeOf(column).Value {
        return get(@TypeOf(column).Value, self.c.keys.columns + column.number, self.c.group);
    }
    /// A value of the key's state; null when it has none.
    pub fn state(self: Call, column: anytype) ?@TypeOf(column).Value {
        if (!self.c.has_state) return null;
        return get(@TypeOf(column).Value, self.c.state.columns + column.number, self.c.state_row);
    }
    pub fn timedOut(self: Call) bool {
        return self.c.timed_out;
    }

    /// Gives a column of the next row its value; a column of an accumulator, in `accumulate` and `merge`.
    pub fn put(self: Call, column: anytype, value: @TypeOf(column).Value) void {
        putInto(@TypeOf(column).Value, self.c.out.columns + column.number, value);
    }
    /// Gives a column of the new state its value; then setState().
    pub fn putState(self: Call, column: anytype, value: @TypeOf(column).Value) void {
        putInto(@TypeOf(column).Value, self.c.new_state.columns + column.number, value);
    }

    /// The row is complete.
    pub fn emit(self: Call) void {
        self.emitFrom(self.c.row);
    }
    pub fn emitFrom(self: Call, at: u32) void {
        self.c.out.n_rows += 1;
        if (self.c.keeps_origin) {
            const from = if (self.c.role != 0) self.c.group else at;
            @as(*u32, @ptrCast(@alignCast(room(&self.c.origin, 4)))).* = from;
        }
    }
    /// The row at which the cursor stands cannot be processed.
    pub fn reject(self: Call, reason: []const u8) void {
        c.tm_reject(self.c, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
    }
    pub fn fail(self: Call, reason: []const u8) void {
        c.tm_fail(self.c, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
    }
    pub fn failForNow(self: Call, reason: []const u8) void {
        c.tm_fail_for_now(self.c, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
    }

    pub fn setState(self: Call) void {
        c.tm_set_state(self.c);
    }
    pub fn removeState(self: Call) void {
        c.tm_remove_state(self.c);
    }
    pub fn setTimeout(self: Call, at: Timestamp) void {
        c.tm_set_timeout(self.c, at.us);
    }
    pub fn setTimeoutAfter(self: Call, duration: Duration) void {
        c.tm_set_timeout_after(self.c, duration.us);
    }
    pub fn clearTimeout(self: Call) void {
        c.tm_clear_timeout(self.c);
    }

    /// Memory until the call ends.
    pub fn alloc(self: Call, comptime T: type, n: usize) []T {
        _ = self;
        return @as([*]T, @ptrCast(@alignCast(c.tm_alloc(n * @sizeOf(T)).?)))[0..n];
    }
};

/// The words of a text, which is one that came or one of Call.alloc: what stands between ASCII white space.
pub fn words(text: []const u8) Words {
    return .{ .at = text.ptr, .end = text.ptr + text.len };
}
pub const Words = struct {
    at: [*]const u8,
    end: [*]const u8,

    pub inline fn next(self: *Words) ?[]const u8 {
        var at = self.at;
        while (at != self.end and isWhite(at[0])) at += 1;
        if (at == self.end) return null;
        const start = at;
        while (true) {
            const left = self.end - at;
            // It looks beyond the end, which tidemill.h has room for, and takes what is there for white space.
            var white = @as(u32, whiteOf16(at)) | 0x10000;
            if (left < 16) white |= @as(u32, 0xFFFF) << @intCast(left);
            at += @ctz(white);
            if (white != 0x10000) break;
        }
        self.at = at;
        return start[0 .. at - start];
    }

    fn isWhite(byte: u8) bool {
        return byte == ' ' or (byte -% 9 < 5 and byte != 11);
    }

    /// One bit for each of the 16 bytes that is white space.
    inline fn whiteOf16(at: [*]const u8) u16 {
        const Bytes16 = @Vector(16, u8);
        const bytes: Bytes16 = at[0..16].*;
        const all = struct {
            inline fn of(byte: u8) Bytes16 {
                return @splat(byte);
            }
        };
        const is_space: u16 = @bitCast(bytes == all.of(' '));
        const is_control: u16 = @bitCast(bytes -% all.of(9) < all.of(5));
        const is_vertical: u16 = @bitCast(bytes == all.of(11));
        return is_space | (is_control & ~is_vertical);
    }
};

pub const Level = enum(c_int) { debug, info, warn, err };
/// Writes a line to the job's log.
pub fn log(level: Level, text: []const u8) void {
    c.tm_log(@intFromEnum(level), "%.*s", @as(c_int, @intCast(text.len)), text.ptr);
}
/// Adds to a counter of the step.
pub fn count(name: [:0]const u8, add: u64) void {
    c.tm_count(name, add);
}
/// Sets a gauge of the step.
pub fn gauge(name: [:0]const u8, value: f64) void {
    c.tm_gauge(name, value);
}

fn exported(comptime role: []const u8, comptime function: []const u8, comptime f: anytype) void {
    const name = "tidemill:operator/" ++ role ++ "@" ++ c.TIDEMILL_CONTRACT ++ "#" ++ function;
    @export(f, .{ .name = name });
    @export(&ended, .{ .name = "cabi_post_" ++ name });
}

fn ended(_: ?*anyopaque) callconv(.c) void {
    c.tm__end();
}

const no_ends = c.tm__ends{ .ends = null, .n = 0 };

/// The functions of a role as the contract has them.
fn Role(comptime Operator: type, comptime number: c_int, comptime invertible: bool) type {
    return struct {
        var operator: Operator = undefined;

        fn opened(o: ?*c.tm_open) callconv(.c) void {
            operator = Operator.open(.{ .c = o.? });
        }

        fn open(
            inputs: []const c.tm_schema,
            keys: c.tm_schema,
            job: [*c]const u8,
            job_n: usize,
            step: [*c]const u8,
            step_n: usize,
            partitions: u32,
            config: [*c]const u8,
            config_n: usize,
        ) ?*anyopaque {
            const o: *c.tm_open = @ptrCast(@alignCast(c.tm_keep(@sizeOf(c.tm_open)).?));
            const kept: [*]c.tm_schema = @ptrCast(@alignCast(c.tm_keep(inputs.len * @sizeOf(c.tm_schema)).?));
            @memcpy(kept[0..inputs.len], inputs);
            o.job = .{ .data = @ptrCast(job), .size = job_n };
            o.step = .{ .data = @ptrCast(step), .size = step_n };
            o.partitions = partitions;
            o.config = .{ .data = @ptrCast(config), .size = config_n };
            o.keys = keys;
            o.inputs = kept;
            o.n_inputs = @intCast(inputs.len);
            return c.tm__open(number, invertible, opened, o);
        }

        fn openOne(
            job: [*c]const u8,
            job_n: usize,
            step: [*c]const u8,
            step_n: usize,
            partitions: u32,
            config: [*c]const u8,
            config_n: usize,
            fields: [*c]const c.tm_field,
            fields_n: usize,
        ) callconv(.c) ?*anyopaque {
            const none = c.tm_schema{ .fields = null, .n_fields = 0 };
            const input = [1]c.tm_schema{.{ .fields = fields, .n_fields = fields_n }};
            return open(&input, none, job, job_n, step, step_n, partitions, config, config_n);
        }

        fn openKeyed(
            job: [*c]const u8,
            job_n: usize,
            step: [*c]const u8,
            step_n: usize,
            partitions: u32,
            config: [*c]const u8,
            config_n: usize,
            keys: [*c]const c.tm_field,
            keys_n: usize,
            fields: [*c]const c.tm_field,
            fields_n: usize,
        ) callconv(.c) ?*anyopaque {
            const keys_schema = c.tm_schema{ .fields = keys, .n_fields = keys_n };
            const input = [1]c.tm_schema{.{ .fields = fields, .n_fields = fields_n }};
            return open(&input, keys_schema, job, job_n, step, step_n, partitions, config, config_n);
        }

        fn openMany(
            job: [*c]const u8,
            job_n: usize,
            step: [*c]const u8,
            step_n: usize,
            partitions: u32,
            config: [*c]const u8,
            config_n: usize,
            keys: [*c]const c.tm_field,
            keys_n: usize,
            inputs: [*c]const c.tm_schema,
            inputs_n: usize,
        ) callconv(.c) ?*anyopaque {
            const keys_schema = c.tm_schema{ .fields = keys, .n_fields = keys_n };
            return open(inputs[0..inputs_n], keys_schema, job, job_n, step, step_n, partitions, config, config_n);
        }

        fn called(comptime function: []const u8) *const fn (?*c.tm_call) callconv(.c) void {
            return &struct {
                fn run(call: ?*c.tm_call) callconv(.c) void {
                    @field(Operator, function)(&operator, Call{ .c = call.? });
                }
            }.run;
        }

        fn Of(comptime function: []const u8, comptime what: c_int) type {
            return struct {
                fn rows(
                    batch_id: u64,
                    batch_time_us: i64,
                    partition: u32,
                    attempt: u32,
                    first_row: u64,
                    has_watermark: u32,
                    watermark_us: i64,
                    n_rows: u32,
                    nodes: [*c]const c.tm__node,
                    n_nodes: usize,
                    buffers: [*c]const c.tm_text,
                    n_buffers: usize,
                ) callconv(.c) ?*anyopaque {
                    return grouped(batch_id, batch_time_us, partition, attempt, first_row, has_watermark, watermark_us, n_rows, nodes, n_nodes, buffers, n_buffers, null, 0);
                }

                fn grouped(
                    batch_id: u64,
                    batch_time_us: i64,
                    partition: u32,
                    attempt: u32,
                    first_row: u64,
                    has_watermark: u32,
                    watermark_us: i64,
                    n_rows: u32,
                    nodes: [*c]const c.tm__node,
                    n_nodes: usize,
                    buffers: [*c]const c.tm_text,
                    n_buffers: usize,
                    ends: [*c]const u32,
                    n_ends: usize,
                ) callconv(.c) ?*anyopaque {
                    const of = c.tm__of{ .batch_id = batch_id, .batch_time_us = batch_time_us, .partition = partition, .attempt = attempt, .first_row = first_row, .has_watermark = @intCast(has_watermark), .watermark_us = watermark_us };
                    const input = c.tm__grouped{
                        .rows = .{ .rows = n_rows, .nodes = nodes, .n_nodes = n_nodes, .buffers = buffers, .n_buffers = n_buffers },
                        .ends = .{ .ends = ends, .n = n_ends },
                    };
                    return c.tm__call(number, what, called(function), &of, null, &input, 1, null);
                }

                fn keyed(
                    batch_id: u64,
                    batch_time_us: i64,
                    partition: u32,
                    attempt: u32,
                    first_row: u64,
                    has_watermark: u32,
                    watermark_us: i64,
                    n_rows: u32,
                    nodes: [*c]const c.tm__node,
                    n_nodes: usize,
                    buffers: [*c]const c.tm_text,
                    n_buffers: usize,
                    inputs: [*c]const c.tm__grouped,
                    n_inputs: usize,
                ) callconv(.c) ?*anyopaque {
                    const of = c.tm__of{ .batch_id = batch_id, .batch_time_us = batch_time_us, .partition = partition, .attempt = attempt, .first_row = first_row, .has_watermark = @intCast(has_watermark), .watermark_us = watermark_us };
                    const keys = c.tm__batch{ .rows = n_rows, .nodes = nodes, .n_nodes = n_nodes, .buffers = buffers, .n_buffers = n_buffers };
                    return c.tm__call(number, what, called(function), &of, &keys, inputs, n_inputs, null);
                }

                fn inverted(arguments: *const c.tm__invert_arguments) callconv(.c) ?*anyopaque {
                    const inputs = [2]c.tm__grouped{ .{ .rows = arguments.whole, .ends = no_ends }, .{ .rows = arguments.part, .ends = no_ends } };
                    const f = if (invertible) called(function) else &c.tm__no_inverse;
                    return c.tm__call(number, what, f, &arguments.of, null, &inputs, 2, null);
                }

                fn updated(arguments: *const c.tm__update_arguments) callconv(.c) ?*anyopaque {
                    const input = c.tm__grouped{ .rows = arguments.input.values, .ends = arguments.input.ends };
                    return c.tm__call(number, what, called(function), &arguments.of, &arguments.input.keys, &input, 1, &arguments.input);
                }
            };
        }
    };
}

/// Exports a transform: a struct with `open` and `process`.
pub fn transform(comptime Operator: type) void {
    const role = Role(Operator, c.TM__TRANSFORM, false);
    exported("transform", "open", &role.openOne);
    exported("transform", "process", &role.Of("process", c.TM__ROWS).rows);
}

/// Exports a reducer: a struct with `open`, `reduce`, and `invert` when it has an inverse.
pub fn reducer(comptime Operator: type) void {
    const role = Role(Operator, c.TM__REDUCER, @hasDecl(Operator, "invert"));
    exported("reducer", "open", &role.openOne);
    exported("reducer", "reduce", &role.Of("reduce", c.TM__ROWS).grouped);
    exported("reducer", "invert", &role.Of("invert", c.TM__INVERT).inverted);
}

/// Exports an aggregator: a struct with `open`, `accumulate`, `merge` and `finish`.
pub fn aggregator(comptime Operator: type) void {
    const role = Role(Operator, c.TM__AGGREGATOR, false);
    exported("aggregator", "open", &role.openOne);
    exported("aggregator", "accumulate", &role.Of("accumulate", c.TM__ROWS).grouped);
    exported("aggregator", "merge", &role.Of("merge", c.TM__MERGE).grouped);
    exported("aggregator", "finish", &role.Of("finish", c.TM__FINISH).rows);
}

/// Exports a grouper: a struct with `open` and `process`.
pub fn grouper(comptime Operator: type) void {
    const role = Role(Operator, c.TM__GROUPER, false);
    exported("grouper", "open", &role.openMany);
    exported("grouper", "process", &role.Of("process", c.TM__ROWS).keyed);
}

/// Exports an updater: a struct with `open` and `update`.
pub fn updater(comptime Operator: type) void {
    const role = Role(Operator, c.TM__UPDATER, false);
    exported("updater", "open", &role.openKeyed);
    exported("updater", "update", &role.Of("update", c.TM__ROWS).updated);
}
