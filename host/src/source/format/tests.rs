//! Streams of JSON and CSV: however the bytes were cut, every row comes out once, in its place.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::job::table::read_options;
use crate::source::counters::SourceSnapshot;

struct Read {
    /// Good rows as texts; null is `-`.
    rows: Vec<String>,
    /// Positions, reasons and values of the rejected ones.
    letters: Vec<(i64, String, Option<String>)>,
    seen: SourceSnapshot,
    outcome: Result<(), Error>,
}

/// Reads pieces of a stream and sets aside what is rejected.
fn read_as(format: &LineFormat, pieces: &[&[u8]], lines: &LineOptions, bad_rows: &BadRows) -> Read {
    let counters = Arc::new(SourceCounters::new("test"));
    let bounds = BatchBounds { rows_max: 3, bytes_max: 40 };
    let mut stream = format.stream("peer", lines, bad_rows, bounds, &counters);
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    let mut emit = |batch: RecordBatch| {
        let n_columns = batch.num_columns() - usize::from(bad_rows.dead_letter().is_some());
        batch.columns().iter().for_each(|column| column.to_data().validate_full().expect("valid Arrow"));
        for row in 0..batch.num_rows() {
            if let Some(hidden) = batch.columns().get(n_columns).filter(|hidden| hidden.is_valid(row)) {
                let letter = hidden.as_struct();
                let text = |index: usize| {
                    let texts = letter.column(index).as_string::<i32>();
                    texts.is_valid(row).then(|| texts.value(row).to_owned())
                };
                assert_eq!(text(0).as_deref(), Some("peer"));
                let position = letter.column(1).as_primitive::<Int64Type>().value(row);
                letters.push((position, text(2).expect("there is a reason"), text(3)));
                continue;
            }
            let cells = batch.columns()[..n_columns].iter().map(|column| match column.is_null(row) {
                true => "-".to_owned(),
                false => array_value_to_string(column, row).expect("it can be shown"),
            });
            rows.push(cells.collect::<Vec<_>>().join("|"));
        }
        Ok(())
    };
    let mut outcome = pieces.iter().try_for_each(|piece| stream.add(piece, &mut emit));
    if outcome.is_ok() {
        outcome = stream.finish(&mut emit);
    }
    Read { rows, letters, seen: counters.snapshot(), outcome }
}

fn aside() -> BadRows {
    BadRows::DeadLetter("bad".into())
}

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let columns: Vec<_> = columns.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    parse_schema(&columns).expect("right types")
}

fn csv(options: CsvOptions) -> LineFormat {
    LineFormat::Csv(schema(&[("n", "int64"), ("s", "utf8")]), options)
}

#[track_caller]
fn check(format: &LineFormat, input: &str, rows: &[&str], letters: &[(i64, &str, Option<&str>)]) {
    let expected: Vec<_> =
        letters.iter().map(|(at, why, value)| (*at, (*why).to_owned(), value.map(str::to_owned))).collect();
    for size in [1, 2, 7, input.len().max(1)] {
        let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
        let read = read_as(format, &pieces, &LineOptions::default(), &aside());
        read.outcome.expect("bad rows are set aside");
        assert_eq!(read.rows, rows, "in pieces of {size}");
        assert_eq!(read.letters, expected, "in pieces of {size}");
        assert_eq!(read.seen.rejected_rows, letters.len() as u64);
    }
}

#[test]
fn records_of_csv_are_rows() {
    let format = csv(CsvOptions::default());
    check(&format, "", &[], &[]);
    check(&format, "n,s\n", &[], &[]);
    check(&format, "n,s\n1,a\n2,b", &["1|a", "2|b"], &[]);
    check(&format, "\u{feff}s,other,n\r\na,x,1\r\n\r\n,,\r\n", &["1|a", "-|-"], &[]);
    check(&format, "n,s\n1,\"a,\"\"b\"\"\n\r\nc\"\n2,\"\"\n", &["1|a,\"b\"\n\r\nc", "2|-"], &[]);
    check(&format, "n,s\n1,5\" pipe\n2,häß\n", &["1|5\" pipe", "2|häß"], &[]);
    let options = CsvOptions { delimiter: b'\t', header: false, quote: None, ..CsvOptions::default() };
    check(&csv(options), "1\t\"a\n2\tb\"\n", &["1|\"a", "2|b\""], &[]);
    let options =
        CsvOptions { quote: Some(b'\''), null_values: vec!["NA".into(), "0".into()], ..CsvOptions::default() };
    check(&csv(options), "n,s\nNA,'a,b'\n0,NA\n3,\n", &["-|a,b", "-|-", "3|"], &[]);
}

#[test]
fn records_that_are_no_rows_are_rejected_with_their_place() {
    let format = csv(CsvOptions::default());
    check(
        &format,
        "n,s\n1,a\nx,b\n3\n4,d,e\n5,f\n",
        &["1|a", "5|f"],
        &[
            (8, "column `n` is int64, and `x` is none", Some("x,b")),
            (12, "it has 1 field, and 2 are expected", Some("3")),
            (14, "it has 3 fields, and 2 are expected", Some("4,d,e")),
        ],
    );
    check(&format, "n,s\n1,a\n2,\"b\n3,c\n", &["1|a"], &[(8, "a quote has no end", Some("2,\"b\n3,c\n"))]);
    let in_lines = CsvOptions { quoted_newlines: false, ..CsvOptions::default() };
    let letter = (8, "a quote has no end on its line", Some("2,\"b"));
    check(&csv(in_lines), "n,s\n1,a\n2,\"b\n3,c\n", &["1|a", "3|c"], &[letter]);
    let two = LineFormat::Csv(schema(&[("a", "int8"), ("b", "boolean")]), CsvOptions::default());
    check(&two, "a,b\n300,maybe\n", &[], &[(4, "column `a` is int8, and `300` is none", Some("300,maybe"))]);
}

#[test]
fn a_record_that_is_too_long_is_left_and_the_next_is_not_lost() {
    let input = "n,s\n1,a\n2,\"long\nlong\nlong\"\n3,c\n4,looooooooong\n5,e\n";
    let lines = LineOptions { line_bytes_max: 10, ..LineOptions::default() };
    for size in [1, 3, input.len()] {
        let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
        let read = read_as(&csv(CsvOptions::default()), &pieces, &lines, &aside());
        // What is left of the record is a quote without its beginning.
        assert_eq!(read.rows, ["1|a", "3|c", "5|e"], "in pieces of {size}");
        let reasons: Vec<_> = read.letters.iter().map(|(at, why, _)| (*at, why.as_str())).collect();
        let too_long = "it is longer than `max-line-bytes`";
        assert_eq!(reasons, [(8, too_long), (21, "it has 1 field, and 2 are expected"), (31, too_long)]);
        let dropped = read_as(&csv(CsvOptions::default()), &pieces, &lines, &BadRows::Drop);
        assert_eq!((dropped.rows, dropped.seen.refused_lines, dropped.seen.rejected_rows), (read.rows, 2, 1));
    }
}

#[test]
fn a_header_without_a_declared_column_fails_by_name() {
    let read = read_as(&csv(CsvOptions::default()), &[b"n,t\n1,a\n"], &LineOptions::default(), &BadRows::Drop);
    let error = read.outcome.expect_err("a column is missing");
    assert_eq!(error.to_string(), "`peer` cannot be read: it has no column `s`; its header has `n`, `t`");
}

#[test]
fn a_header_that_names_a_declared_column_twice_fails_by_name() {
    let read = |header: &str| {
        let input = format!("{header}\n1,a,2\n");
        read_as(&csv(CsvOptions::default()), &[input.as_bytes()], &LineOptions::default(), &BadRows::Drop)
    };
    let error = read("n,s,n").outcome.expect_err("which of the two is meant?");
    assert_eq!(error.to_string(), "`peer` cannot be read: its header has `n` twice: fields 1 and 3");
    // Nobody reads these.
    assert_eq!(read("n,s,x").rows, ["1|a"]);
}

#[test]
fn values_of_json_are_texts_where_texts_are_wanted() {
    let format = LineFormat::Json(schema(&[("n", "int64"), ("s", "utf8"), ("l", "list<utf8>")]));
    check(
        &format,
        "{\"s\": \"a\", \"n\": 1}\n{\"s\": 1.50}\n{\"s\": true, \"l\": [1, \"b\", null]}\n{\"s\": null}\n\
         {\"s\": {\"k\" : [1, \"x y\"]}, \"n\": 2}\n{\"n\": \"x\"}\n{\"s\": [], \"l\": [[1], {}]}\n",
        &["1|a|-", "-|1.50|-", "-|true|[1, b, ]", "-|-|-", "2|{\"k\":[1,\"x y\"]}|-", "-|[]|[[1], {}]"],
        &[(110, "whilst decoding field 'n': failed to parse \"x\" as int64", Some("{\"n\": \"x\"}"))],
    );
}

#[test]
fn values_of_json_that_do_not_fit_are_rejected() {
    let columns = [("x", "float64"), ("f", "float32"), ("b", "binary"), ("t", "timestamp")];
    let format = LineFormat::Json(schema(&columns));
    check(
        &format,
        "{\"x\": 1e400}\n{\"x\": \"inf\", \"b\": \"abc\"}\n{\"x\": \"-inf\", \"b\": \"abcd\"}\n{\"f\": -1e39}\n\
         {\"t\": 9223372036854775808}\n{\"t\": 0}\n",
        &["-inf|-|abcd|-", "-|-|-|1970-01-01T00:00:00Z"],
        &[
            (0, "`x` has 1e400, which does not fit float64", Some("{\"x\": 1e400}")),
            (
                13,
                "`b` must be hexadecimal, two digits a byte, and \"abc\" is not",
                Some("{\"x\": \"inf\", \"b\": \"abc\"}"),
            ),
            (65, "`f` has -1e39, which does not fit float32", Some("{\"f\": -1e39}")),
            (78, "`t` has 9223372036854775808, which does not fit timestamp", Some("{\"t\": 9223372036854775808}")),
        ],
    );
}

#[test]
fn lines_of_json_that_are_no_rows_are_rejected_with_their_place() {
    let format = LineFormat::Json(schema(&[("n", "int64"), ("s", "utf8")]));
    check(
        &format,
        "\u{feff}{\"n\": 1}\n{\"n\": 1.5}\nx\n{\"n\": {}}\n\n{\"s\": \"a\", \"n\": 2.0}",
        &["1|-", "2|a"],
        &[
            (12, "`n` must be a whole number, and 1.5 is not", Some("{\"n\": 1.5}")),
            (23, "it is no JSON object", Some("x")),
            (25, "whilst decoding field 'n': expected primitive got {}", Some("{\"n\": {}}")),
        ],
    );
}

#[test]
fn digits_beyond_the_scale_of_a_decimal_are_cut() {
    let format = LineFormat::Json(schema(&[("d", "decimal(5, 2)")]));
    check(&format, "{\"d\": 1.259}\n{\"d\": \"-1.259\"}\n{\"d\": 1.25e0}", &["1.25", "-1.25", "1.25"], &[]);
}

#[test]
fn the_first_bad_row_of_all_is_the_one_that_fails() {
    let format = LineFormat::Json(schema(&[("n", "int64")]));
    let input: &[u8] = b"{\"n\": 1}\n{\"n\": \"x\"}\n{\"n\": 2} 3\nnonsense\n";
    let read = read_as(&format, &[input], &LineOptions::default(), &BadRows::Fail);
    let error = read.outcome.expect_err("a row is bad").to_string();
    assert!(error.starts_with("the row at byte 9 of `peer` cannot be read: `{\"n\": \"x\"}`: "), "{error}");
    assert_eq!(read.rows, [""; 0]);
}

#[track_caller]
fn check_mistakes(text: &str, expected: &[&str]) {
    let problems = read_options(text, std::path::Path::new("/"), LineFormat::parse);
    let problems = problems.expect_err("there are mistakes");
    assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn options_are_read_and_mistakes_are_named() {
    let read = |text: &str| read_options(text, std::path::Path::new("/"), LineFormat::parse);
    assert_eq!(read(""), Ok((Some(LineFormat::Text), BadRows::Drop)));
    let all = "format = 'csv'\nschema = { n = 'int64', s = 'utf8' }\ndelimiter = ';'\nheader = false\nquote = ''\n\
               null-value = ['', 'NA']\nquoted-newlines = false\non-error = 'dead-letter'\ndead-letter = 'bad'";
    let options = CsvOptions {
        delimiter: b';',
        header: false,
        quote: None,
        null_values: vec!["".into(), "NA".into()],
        quoted_newlines: false,
    };
    assert_eq!(read(all), Ok((Some(csv(options)), aside())));

    check_mistakes("format = 'csw'", &["`format` cannot be `csw`"]);
    check_mistakes("format = 'csv'", &["`schema` is missing"]);
    check_mistakes("format = 'json'\nschema = 'infer'", &["`schema = \"infer\"` is for files"]);
    check_mistakes("format = 'json'\nschema = 'guess'", &["`schema` cannot be `guess`"]);
    check_mistakes("format = 'json'\nschema = 7", &["`schema` must be a table of texts, not a whole number"]);
    check_mistakes("schema = { a = 'utf8' }", &["`schema` does not go with `format = \"text\"`"]);
    check_mistakes("delimiter = ';'", &["`delimiter` does not go with `format = \"text\"`"]);
    check_mistakes("on-error = 'fail'", &["`on-error` does not go with `format = \"text\"`"]);
    let json = "format = 'json'\nschema = { a = 'utf8' }\n";
    check_mistakes(&format!("{json}header = true"), &["`header` does not go with `format = \"json\"`"]);
    check_mistakes(&format!("{json}on-error = 'dead-letter'"), &["`dead-letter` is missing"]);
    check_mistakes(&format!("{json}on-error = 'ignore'"), &["`on-error` cannot be `ignore`"]);
    let needs = "`dead-letter` needs `on-error = \"dead-letter\"`";
    check_mistakes(&format!("{json}dead-letter = 'bad'"), &[needs]);
    check_mistakes(&format!("{json}dead-letter = 'bad'\non-error = 'fail'"), &[needs]);
    let csv = "format = 'csv'\nschema = { a = 'utf8' }\n";
    check_mistakes(&format!("{csv}delimiter = '::'"), &["`delimiter` must be one ASCII character"]);
    check_mistakes(&format!("{csv}delimiter = '\"'"), &["`quote` and `delimiter` must differ"]);
    check_mistakes(&format!("{csv}quote = 'é'"), &["`quote` must be one ASCII character, or empty"]);
    check_mistakes("format = 'csv'\nschema = { a = 'list<utf8>' }", &["column `a` cannot be read from CSV"]);
}

#[test]
fn numbers_of_json_that_are_none_are_rejected_where_texts_are_wanted() {
    let format = LineFormat::Json(schema(&[("n", "int64"), ("s", "utf8")]));
    let input = "{\"n\":1,\"s\":01}\n{\"n\":2,\"s\":\"01\"}\n{\"n\":3,\"s\":1.50}\n{\"n\":4,\"s\":1.}\n";
    let wrong = ["{\"n\":1,\"s\":01}", "{\"n\":4,\"s\":1.}"];
    check(
        &format,
        input,
        &["2|01", "3|1.50"],
        &[
            (0, "`01` is no number of JSON", Some(wrong[0])),
            (input.find(wrong[1]).expect("a line") as i64, "`1.` is no number of JSON", Some(wrong[1])),
        ],
    );
}

proptest! {
    /// However CSV is written and cut into pieces, each record is one row.
    #[test]
    fn law_csv_is_read_as_it_was_written(
        cells in prop::collection::vec(prop::option::of("[a,\"\n\r é]{1,6}"), 1..12),
        cuts in prop::collection::vec(1..9_usize, 1..12),
    ) {
        let mut text = String::from("s,n\n");
        for (number, cell) in cells.iter().enumerate() {
            let cell = cell.as_deref().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).unwrap_or_default();
            text.push_str(&format!("{cell},{number}\n"));
        }
        let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, next) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = next;
        }
        let read = read_as(&csv(CsvOptions::default()), &pieces, &LineOptions::default(), &aside());
        let row = |(number, cell): (usize, &Option<String>)| format!("{number}|{}", cell.as_deref().unwrap_or("-"));
        prop_assert_eq!(read.rows, cells.iter().enumerate().map(row).collect::<Vec<_>>());
        prop_assert_eq!(read.letters, vec![]);
    }
}
