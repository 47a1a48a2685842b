// The transform of the conformance operator in C++: see docs/conformance.md.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.hpp"

using namespace tidemill;

class Echo {
    std::string_view fail;
    uint64_t reject_every, repeat;
    bool by_rows, diagnostics, carry;

public:
    explicit Echo(Open &open)
        : fail(open.config_or<std::string_view>("fail", "")), reject_every(open.config_or<uint64_t>("reject-every", 0)),
          repeat(open.config_or<uint64_t>("repeat", 1)), by_rows(open.config_or<std::string_view>("by", "columns") == "rows"),
          diagnostics(open.config_or<bool>("diagnostics", false)), carry(open.config_or<bool>("carry", false)) {
        auto refuse = open.config_or<std::string_view>("refuse", "");
        if (refuse == "config") open.refuse_config("refused as asked");
        if (refuse == "schema") open.refuse_schema("refused as asked");
        if (refuse == "other") tm_refuse(open.c, "refused as asked");
        // Other roles have these.
        for (const char *key : {"invertible", "every-key", "timeouts", "timeout-us", "remove-at"}) tm_config_json(open.c, key);
        tm_tell_origin(open.c);
        if (carry) {
            open.carry_all();
            return;
        }
        tm_read_all(open.c, 0);
        tm_schema input = open.c->inputs[0];
        for (size_t i = 0; i < input.n_fields; i += tm_field_size(input.fields + i)) {
            tm_write_like(open.c, input.fields[i].name, input.fields + i);
        }
    }

    void process(Call &call) {
        uint32_t n_rows = call.c->n_rows;
        if (diagnostics) {
            tm_log(TM_INFO, "conform: %u rows", n_rows);
            tm_count("conform_rows", n_rows);
            tm_gauge("conform_last", n_rows);
        }
        if (fail == "retry") call.fail_for_now("failed as asked");
        if (fail == "fatal") call.fail("failed as asked");
        for (Row row : call.rows()) {
            uint64_t number = call.c->first_row + row.index;
            if (reject_every && number % reject_every == reject_every - 1) {
                call.reject("row %llu is rejected", static_cast<unsigned long long>(number));
                continue;
            }
            for (uint64_t i = 0; i < repeat; i++) {
                const tm_batch &in = call.c->in[0];
                for (uint32_t column = 0; column < in.n_columns; column++) {
                    put(*tm_out(call.c, column), in.columns[column], row.index);
                }
                call.emit();
            }
        }
    }

private:
    /// Takes a value out as a T, and puts it in.
    template <class T> static void as(tm_builder &to, const tm_column &from, uint32_t row) {
        Column<std::optional<T>>::put(to, Column<std::optional<T>>::get(from, row));
    }

    void put(tm_builder &to, const tm_column &from, uint32_t row) const {
        if (!by_rows) return tm_put_value(&to, &from, row);
        switch (from.field->type) {
        case TM_BOOLEAN: return as<bool>(to, from, row);
        case TM_INT8: return as<int8_t>(to, from, row);
        case TM_INT16: return as<int16_t>(to, from, row);
        case TM_INT32: return as<int32_t>(to, from, row);
        case TM_INT64: return as<int64_t>(to, from, row);
        case TM_UINT8: return as<uint8_t>(to, from, row);
        case TM_UINT16: return as<uint16_t>(to, from, row);
        case TM_UINT32: return as<uint32_t>(to, from, row);
        case TM_UINT64: return as<uint64_t>(to, from, row);
        case TM_FLOAT32: return as<float>(to, from, row);
        case TM_FLOAT64: return as<double>(to, from, row);
        case TM_UTF8: return as<std::string_view>(to, from, row);
        case TM_BINARY: case TM_FIXED: return as<Bytes>(to, from, row);
        case TM_DATE32: return as<Date>(to, from, row);
        case TM_TIMESTAMP: return as<Timestamp>(to, from, row);
        case TM_DURATION: return as<Duration>(to, from, row);
        case TM_DECIMAL: return as<Decimal<38, 0>>(to, from, row);
        default: return nested(to, from, row);
        }
    }

    void nested(tm_builder &to, const tm_column &from, uint32_t row) const {
        if (tm_is_null(&from, row)) return tm_put_null(&to);
        if (from.field->type == TM_STRUCT) {
            for (uint32_t i = 0; i < from.n_children; i++) put(*tm_part(&to, i), *tm_child(&from, i), row);
            return tm_put_struct(&to);
        }
        tm_range range = tm_get_list(&from, row);
        for (uint32_t i = range.start; i < range.end; i++) put(*tm_item(&to), *tm_items(&from), i);
        tm_put_list(&to);
    }
};

TIDEMILL_TRANSFORM_CLASS(Echo)
