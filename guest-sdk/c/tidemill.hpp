// tidemill.hpp: tidemill.h for C++20, with columns that know their types. Exceptions and RTTI may be off.
//
//     #define TIDEMILL_IMPLEMENTATION
//     #include "tidemill.hpp"
//
//     struct SplitWords {
//         tidemill::Read<std::string_view> value;
//         tidemill::Write<std::string_view> word;
//
//         explicit SplitWords(tidemill::Open &open) : value(open, "value"), word(open, "word") {}
//
//         void process(tidemill::Call &call) {
//             for (auto row : call.rows()) {
//                 for (auto next : tidemill::words(row[value])) call.emit(word, next);
//             }
//         }
//     };
//     TIDEMILL_TRANSFORM_CLASS(SplitWords)
//
// An operator is a class. Its constructor names the columns and reads the configuration; a role's macro says which
// functions it has: TIDEMILL_TRANSFORM_CLASS (process), TIDEMILL_REDUCER_CLASS (reduce), TIDEMILL_INVERTIBLE_REDUCER_CLASS
// (reduce, invert), TIDEMILL_AGGREGATOR_CLASS (accumulate, merge, finish), TIDEMILL_GROUPER_CLASS (process),
// TIDEMILL_UPDATER_CLASS (update). Everything else is as in tidemill.h, which can be used beside it: Call and Open have a
// pointer `c` to what that knows.
//
// Types: bool, int8_t to uint64_t, float, double, std::string_view (utf8), Bytes (binary), Date, Timestamp, Duration (both in
// microseconds), Decimal<P, S>, List<T>, and std::optional of each for what may be null. Structs, maps and other units are
// read through column() and built through builder(), as in C.
//
// Licence: Apache-2.0.
#ifndef TIDEMILL_HPP
#define TIDEMILL_HPP

#include "tidemill.h"

// The format is checked where it is written, which is not here.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

#include <compare>
#include <cstddef>
#include <iterator>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tidemill {

using Bytes = std::span<const std::byte>;
/// Days since 1970-01-01.
struct Date {
    int32_t days;
    auto operator<=>(const Date &) const = default;
};
/// Microseconds since 1970-01-01 UTC.
struct Timestamp {
    int64_t us;
    auto operator<=>(const Timestamp &) const = default;
};
/// Microseconds.
struct Duration {
    int64_t us;
    auto operator<=>(const Duration &) const = default;
};
/// A number of Precision digits, Scale of them behind the point.
template <unsigned Precision, int Scale> struct Decimal {
    tm_i128 digits;
};

inline std::string_view view(tm_text text) { return {text.data, text.size}; }
inline tm_text text(std::string_view view) { return tm_bytes(view.data(), view.size()); }

/// How a type is read and built. Specialise it for your own.
template <class T> struct Column;

namespace detail {
/// Text that is put together while compiling.
template <size_t N> struct Name {
    char text[N] = {};
    constexpr Name() = default;
    constexpr Name(const char (&from)[N]) {
        for (size_t i = 0; i < N; i++) text[i] = from[i];
    }
};
template <size_t A, size_t B> constexpr Name<A + B - 1> operator+(const Name<A> &a, const Name<B> &b) {
    Name<A + B - 1> sum;
    for (size_t i = 0; i + 1 < A; i++) sum.text[i] = a.text[i];
    for (size_t i = 0; i < B; i++) sum.text[A - 1 + i] = b.text[i];
    return sum;
}
template <unsigned N> constexpr auto number() {
    if constexpr (N >= 10) return number<N / 10>() + Name<2>({char('0' + N % 10), 0});
    else return Name<2>({char('0' + N), 0});
}
} // namespace detail

#define TIDEMILL_COLUMN(ctype, type_name, function)                                                                      \
    template <> struct Column<ctype> {                                                                                   \
        static constexpr detail::Name name = type_name;                                                                  \
        static ctype get(const tm_column &column, uint32_t row) { return tm_get_##function(&column, row); }              \
        static void put(tm_builder &builder, ctype value) { tm_put_##function(&builder, value); }                        \
    };
TIDEMILL_COLUMN(bool, "boolean", bool)
TIDEMILL_COLUMN(int8_t, "int8", i8)
TIDEMILL_COLUMN(int16_t, "int16", i16)
TIDEMILL_COLUMN(int32_t, "int32", i32)
TIDEMILL_COLUMN(int64_t, "int64", i64)
TIDEMILL_COLUMN(uint8_t, "uint8", u8)
TIDEMILL_COLUMN(uint16_t, "uint16", u16)
TIDEMILL_COLUMN(uint32_t, "uint32", u32)
TIDEMILL_COLUMN(uint64_t, "uint64", u64)
TIDEMILL_COLUMN(float, "float32", f32)
TIDEMILL_COLUMN(double, "float64", f64)
#undef TIDEMILL_COLUMN

template <> struct Column<std::string_view> {
    static constexpr detail::Name name = "utf8";
    static std::string_view get(const tm_column &column, uint32_t row) { return view(tm_get_text(&column, row)); }
    static void put(tm_builder &builder, std::string_view value) { tm_put_text(&builder, text(value)); }
};
template <> struct Column<Bytes> {
    static constexpr detail::Name name = "binary";
    static Bytes get(const tm_column &column, uint32_t row) {
        tm_text bytes = tm_get_text(&column, row);
        return {reinterpret_cast<const std::byte *>(bytes.data), bytes.size};
    }
    static void put(tm_builder &builder, Bytes value) { tm_put_text(&builder, tm_bytes(value.data(), value.size())); }
};
template <> struct Column<Date> {
    static constexpr detail::Name name = "date32";
    static Date get(const tm_column &column, uint32_t row) { return {tm_get_date(&column, row)}; }
    static void put(tm_builder &builder, Date value) { tm_put_date(&builder, value.days); }
};
template <> struct Column<Timestamp> {
    static constexpr detail::Name name = "timestamp";
    static Timestamp get(const tm_column &column, uint32_t row) { return {tm_get_time(&column, row)}; }
    static void put(tm_builder &builder, Timestamp value) { tm_put_time(&builder, value.us); }
};
template <> struct Column<Duration> {
    static constexpr detail::Name name = "duration";
    static Duration get(const tm_column &column, uint32_t row) { return {tm_get_time(&column, row)}; }
    static void put(tm_builder &builder, Duration value) { tm_put_time(&builder, value.us); }
};
template <unsigned Precision, int Scale> struct Column<Decimal<Precision, Scale>> {
    static constexpr auto name = [] {
        using detail::Name;
        auto begin = Name("decimal(") + detail::number<Precision>() + Name(", ");
        if constexpr (Scale < 0) return begin + Name("-") + detail::number<unsigned(-Scale)>() + Name(")");
        else return begin + detail::number<unsigned(Scale)>() + Name(")");
    }();
    static Decimal<Precision, Scale> get(const tm_column &column, uint32_t row) { return {tm_get_decimal(&column, row)}; }
    static void put(tm_builder &builder, Decimal<Precision, Scale> value) { tm_put_decimal(&builder, value.digits); }
};
template <class T> struct Column<std::optional<T>> {
    static constexpr auto name = Column<T>::name + detail::Name("?");
    static std::optional<T> get(const tm_column &column, uint32_t row) {
        if (tm_is_null(&column, row)) return std::nullopt;
        return Column<T>::get(column, row);
    }
    static void put(tm_builder &builder, const std::optional<T> &value) {
        if (value) Column<T>::put(builder, *value);
        else tm_put_null(&builder);
    }
};

/// Numbers from `first` up to, not including, `last`, each made into what Make makes of it.
template <class Make> struct Range {
    Make make;
    uint32_t first, last;
    struct iterator {
        using value_type = decltype(std::declval<const Make &>()(0u));
        using difference_type = ptrdiff_t;
        const Make *make = nullptr;
        uint32_t at = 0;
        value_type operator*() const { return (*make)(at); }
        iterator &operator++() { return ++at, *this; }
        iterator operator++(int) { auto old = *this; return ++at, old; }
        bool operator==(const iterator &other) const { return at == other.at; }
    };
    iterator begin() const { return {&make, first}; }
    iterator end() const { return {&make, last}; }
    uint32_t size() const { return last - first; }
};

/// The items of a list, in place. An item is a T, an optional one where it may be null.
template <class T> struct List {
    const tm_column *items = nullptr;
    uint32_t first = 0, last = 0;
    struct Item {
        const tm_column *items;
        T operator()(uint32_t index) const { return Column<T>::get(*items, index); }
    };
    auto begin() const { return typename Range<Item>::iterator{item(), first}; }
    auto end() const { return typename Range<Item>::iterator{item(), last}; }
    uint32_t size() const { return last - first; }
    T operator[](uint32_t index) const { return Column<T>::get(*items, first + index); }

private:
    // A List is a pointer and two numbers: its first member is all that an Item is.
    const Item *item() const { return reinterpret_cast<const Item *>(&items); }
};
template <class T> struct Column<List<T>> {
    static constexpr auto name = detail::Name("list<") + Column<T>::name + detail::Name(">");
    static List<T> get(const tm_column &column, uint32_t row) {
        tm_range range = tm_get_list(&column, row);
        return {tm_items(&column), range.start, range.end};
    }
    /// Any range of items.
    template <class Items> static void put(tm_builder &builder, const Items &items) {
        for (const auto &item : items) Column<T>::put(*tm_item(&builder), item);
        tm_put_list(&builder);
    }
};

/// What a constructor gets. `refuse…` takes a format as printf does.
struct Open {
    tm_open *c;

    std::string_view job() const { return view(c->job); }
    std::string_view step() const { return view(c->step); }

    /// A key of the configuration that has to be there; one that may be left out. Of bool, int64_t, double,
    /// std::string_view, Duration. Keys that nobody asks for are refused.
    template <class T> T config(const char *key) {
        if constexpr (std::is_same_v<T, bool>) return tm_config_bool(c, key);
        else if constexpr (std::is_same_v<T, Duration>) return {tm_config_duration_us(c, key)};
        else if constexpr (std::is_integral_v<T>) return T(tm_config_i64(c, key));
        else if constexpr (std::is_floating_point_v<T>) return T(tm_config_f64(c, key));
        else return view(tm_config_text(c, key));
    }
    template <class T> T config_or(const char *key, T otherwise) {
        if constexpr (std::is_same_v<T, bool>) return tm_config_bool_or(c, key, otherwise);
        else if constexpr (std::is_same_v<T, Duration>) return {tm_config_duration_us_or(c, key, otherwise.us)};
        else if constexpr (std::is_integral_v<T>) return T(tm_config_i64_or(c, key, otherwise));
        else if constexpr (std::is_floating_point_v<T>) return T(tm_config_f64_or(c, key, otherwise));
        else {
            char kind = tm_json_kind(tm_config_json(c, key));
            return kind && kind != 'n' ? view(tm_config_text(c, key)) : otherwise;
        }
    }
    template <class... A> void refuse_config(const char *format, A... a) { tm_refuse_config(c, format, a...); }
    template <class... A> void refuse_schema(const char *format, A... a) { tm_refuse_schema(c, format, a...); }

    void carry_all() { tm_carry_all(c); }
    void carry(const char *name) { tm_carry(c, name); }
    void call_every_key() { tm_call_every_key(c); }
    void use_batch_time() { tm_use_batch_time(c); }
    void use_event_time() { tm_use_event_time(c); }
};

/// A column of the input that is read. For cogroups: of which input.
template <class T> struct Read {
    uint32_t number, input;
    Read(Open &open, const char *name, uint32_t input = 0)
        : number(tm_read_of(open.c, input, tm_str(name), Column<T>::name.text)), input(input) {}
};
/// A column of the key.
template <class T> struct Key {
    uint32_t number;
    Key(Open &open, const char *name) : number(tm_key(open.c, name, Column<T>::name.text)) {}
};
/// A column that is written.
template <class T> struct Write {
    uint32_t number;
    Write(Open &open, const char *name) : number(tm_write(open.c, name, Column<T>::name.text)) {}
};
/// A column of an updater's state, or of an aggregator's accumulator.
template <class T> struct Keep {
    uint32_t number;
    Keep(Open &open, const char *name) : number(tm_keep_state(open.c, name, Column<T>::name.text)) {}
};
/// A column that a reducer combines.
template <class T> struct Combine {
    uint32_t number;
    Combine(Open &open, const char *name) : number(tm_read(open.c, name, Column<T>::name.text)) {}
};

/// A row of the input.
struct Row {
    const tm_call *c;
    uint32_t index;

    template <class T> T operator[](Read<T> column) const {
        return Column<T>::get(*tm_in_of(c, column.input, column.number), index);
    }
    template <class T> T operator[](Combine<T> column) const { return Column<T>::get(*tm_in(c, column.number), index); }
    /// A column of an accumulator, in `merge` and `finish`.
    template <class T> T operator[](Keep<T> column) const { return Column<T>::get(*tm_in(c, column.number), index); }
};

/// The rows at which a cursor of tidemill.h stands, one after the other. They can be gone through once.
struct Rows {
    tm_call *c;
    uint32_t input;
    struct sentinel {};
    struct iterator {
        using value_type = Row;
        using difference_type = ptrdiff_t;
        tm_call *c = nullptr;
        uint32_t input = 0;
        bool more = false;
        Row operator*() const { return {c, c->row}; }
        iterator &operator++() { return more = tm_next_row_of(c, input), *this; }
        void operator++(int) { ++*this; }
        bool operator==(sentinel) const { return !more; }
    };
    iterator begin() const { return {c, input, tm_next_row_of(c, input)}; }
    sentinel end() const { return {}; }
};

/// All that a key has in the call.
struct Group {
    tm_call *c;

    /// The rows that can be read; of another input than the first: cogroup.
    Rows rows(uint32_t input = 0) const { return {c, input}; }
    uint32_t n_rows(uint32_t input = 0) const { return tm_n_rows(c, input); }
    template <class T> T operator[](Key<T> column) const { return Column<T>::get(*tm_keys(c, column.number), c->group); }
    /// Updaters.
    bool has_state() const { return c->has_state; }
    bool timed_out() const { return c->timed_out; }
    /// The state: when there is some.
    template <class T> T operator[](Keep<T> column) const {
        return Column<T>::get(*tm_state(c, column.number), c->state_row);
    }
};
struct Groups {
    tm_call *c;
    struct sentinel {};
    struct iterator {
        using value_type = Group;
        using difference_type = ptrdiff_t;
        tm_call *c = nullptr;
        bool more = false;
        Group operator*() const { return {c}; }
        iterator &operator++() { return more = tm_next_group(c), *this; }
        void operator++(int) { ++*this; }
        bool operator==(sentinel) const { return !more; }
    };
    iterator begin() const { return {c, tm_next_group(c)}; }
    sentinel end() const { return {}; }
};

/// What a call gets and gives.
struct Call {
    tm_call *c;

    Rows rows() const { return {c, 0}; }
    Groups groups() const { return {c}; }

    /// A whole column, for loops over its values: tm_values_f64(call.column(x))[row].
    template <class T> const tm_column *column(Read<T> read) const { return tm_in_of(c, read.input, read.number); }
    /// The builder of a column, for what put() cannot say.
    template <class T> tm_builder *builder(Write<T> write) const { return tm_out(c, write.number); }

    /// Gives a column of the next row its value.
    template <class T, class V> void put(Write<T> column, const V &value) { Column<T>::put(*tm_out(c, column.number), value); }
    template <class T, class V> void put(Combine<T> column, const V &value) { Column<T>::put(*tm_out(c, column.number), value); }
    /// A column of the accumulator: aggregators. A column of the new state: updaters, before set_state().
    template <class T, class V> void put(Keep<T> column, const V &value) {
        Column<T>::put(c->role == TM__UPDATER ? *tm_new_state(c, column.number) : *tm_out(c, column.number), value);
    }
    /// The row is complete.
    void emit() { tm_emit(c); }
    /// put() for each pair of a column and its value, then emit().
    template <class T, class V, class... Rest> void emit(Write<T> column, const V &value, const Rest &...rest) {
        put(column, value);
        emit(rest...);
    }
    /// A row of a function of a whole batch that carries columns.
    void emit_from(Row row) { tm_emit_from(c, row.index); }

    /// The row at which the cursor stands cannot be processed.
    template <class... A> void reject(const char *format, A... a) { tm_reject(c, format, a...); }
    template <class... A> void fail(const char *format, A... a) { tm_fail(c, format, a...); }
    template <class... A> void fail_for_now(const char *format, A... a) { tm_fail_for_now(c, format, a...); }

    /// Updaters.
    void set_state() { tm_set_state(c); }
    template <class T, class V, class... Rest> void set_state(Keep<T> column, const V &value, const Rest &...rest) {
        put(column, value);
        set_state(rest...);
    }
    void remove_state() { tm_remove_state(c); }
    void set_timeout(Timestamp at) { tm_set_timeout(c, at.us); }
    void set_timeout_after(Duration duration) { tm_set_timeout_after(c, duration.us); }
    void clear_timeout() { tm_clear_timeout(c); }
    Timestamp batch_time() const { return {c->batch_time_us}; }
    std::optional<Timestamp> watermark() const {
        return c->has_watermark ? std::optional<Timestamp>({c->watermark_us}) : std::nullopt;
    }
};

/// The words of a text: what stands between ASCII white space.
struct words {
    std::string_view text;
    explicit words(std::string_view text) : text(text) {}
    struct sentinel {};
    struct iterator {
        using value_type = std::string_view;
        using difference_type = ptrdiff_t;
        tm_text rest = {}, word = {};
        bool more = false;
        std::string_view operator*() const { return view(word); }
        iterator &operator++() { return more = tm_next_word(&rest, &word), *this; }
        void operator++(int) { ++*this; }
        bool operator==(sentinel) const { return !more; }
    };
    iterator begin() const { return ++iterator{tidemill::text(text)}; }
    sentinel end() const { return {}; }
};

namespace detail {
/// The one operator of an instance. It is never destroyed.
template <class T> T *instance;
template <class T> void open(tm_open *o) {
    Open open{o};
    instance<T> = ::new (tm_keep(sizeof(T) + alignof(T))) T(open);
}
} // namespace detail

} // namespace tidemill

#define TIDEMILL_FUNCTION(type, function)                                                                                \
    static void tm__##function##_of_##type(tm_call *c) {                                                                 \
        tidemill::Call call{c};                                                                                          \
        tidemill::detail::instance<type>->function(call);                                                                \
    }
#define TIDEMILL_TRANSFORM_CLASS(type)                                                                                   \
    TIDEMILL_FUNCTION(type, process)                                                                                     \
    TIDEMILL_TRANSFORM(tidemill::detail::open<type>, tm__process_of_##type)
#define TIDEMILL_REDUCER_CLASS(type)                                                                                     \
    TIDEMILL_FUNCTION(type, reduce)                                                                                      \
    TIDEMILL_REDUCER(tidemill::detail::open<type>, tm__reduce_of_##type)
#define TIDEMILL_INVERTIBLE_REDUCER_CLASS(type)                                                                          \
    TIDEMILL_FUNCTION(type, reduce)                                                                                      \
    TIDEMILL_FUNCTION(type, invert)                                                                                      \
    TIDEMILL_REDUCER_INVERTIBLE(tidemill::detail::open<type>, tm__reduce_of_##type, tm__invert_of_##type)
#define TIDEMILL_AGGREGATOR_CLASS(type)                                                                                  \
    TIDEMILL_FUNCTION(type, accumulate)                                                                                  \
    TIDEMILL_FUNCTION(type, merge)                                                                                       \
    TIDEMILL_FUNCTION(type, finish)                                                                                      \
    TIDEMILL_AGGREGATOR(tidemill::detail::open<type>, tm__accumulate_of_##type, tm__merge_of_##type, tm__finish_of_##type)
#define TIDEMILL_GROUPER_CLASS(type)                                                                                     \
    TIDEMILL_FUNCTION(type, process)                                                                                     \
    TIDEMILL_GROUPER(tidemill::detail::open<type>, tm__process_of_##type)
#define TIDEMILL_UPDATER_CLASS(type)                                                                                     \
    TIDEMILL_FUNCTION(type, update)                                                                                      \
    TIDEMILL_UPDATER(tidemill::detail::open<type>, tm__update_of_##type)

#pragma GCC diagnostic pop

#if defined(TIDEMILL_IMPLEMENTATION) && defined(__wasm__) && defined(_LIBCPP_VERSION) && !defined(__cpp_exceptions)
// libc++ says on standard error why it gives up, and pulls in the whole of stdio for it: a trap is enough.
// Older versions declare it without `noexcept`.
__attribute__((weak)) void std::__libcpp_verbose_abort(const char *, ...) noexcept(noexcept(std::__libcpp_verbose_abort(""))) {
    __builtin_trap();
}
#endif

#endif // TIDEMILL_HPP
