//! Lines come out as they went in, however the bytes were cut.

use arrow::array::AsArray;
use proptest::prelude::*;

use super::*;
use crate::source::counters::SourceSnapshot;

struct Read {
    lines: Vec<String>,
    batch_rows: Vec<usize>,
    seen: SourceSnapshot,
}

/// Reads pieces of a stream; batches of at most three rows or 40 bytes.
fn read(pieces: &[&[u8]], options: &LineOptions) -> Read {
    let counters = Arc::new(SourceCounters::new("test"));
    let rows = TextRows::new(options.clone(), text_schema(), Arc::clone(&counters), 3, 40);
    let mut stream = LineStream::new(LineCutter::new(options), rows);
    let (mut lines, mut batch_rows) = (Vec::new(), Vec::new());
    let mut emit = |rows: RecordBatch| {
        rows.column(0).to_data().validate_full().expect("valid Arrow");
        batch_rows.push(rows.num_rows());
        lines.extend(rows.column(0).as_string::<i32>().iter().map(|line| line.expect("no nulls").to_owned()));
        Ok(())
    };
    for piece in pieces {
        stream.add(piece, &mut emit).expect("emit takes all");
    }
    stream.finish(&mut emit).expect("emit takes all");
    Read { lines, batch_rows, seen: counters.snapshot() }
}

fn short(line_bytes_max: u64) -> LineOptions {
    LineOptions { line_bytes_max, ..LineOptions::default() }
}

#[track_caller]
fn check(input: &[u8], expected: &[&str]) {
    assert_eq!(read(&[input], &LineOptions::default()).lines, expected, "in one piece");
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(read(&bytes, &LineOptions::default()).lines, expected, "byte by byte");
}

#[test]
fn lines_are_split() {
    check(b"", &[]);
    check(b"a\n", &["a"]);
    check(b"a\nb", &["a", "b"]);
    check(b"\n\na\n", &["", "", "a"]);
    check(b"a\r\nb\rc\r\n\r\n", &["a", "b\rc", ""]);
    check("häß\nnaïve €\n".as_bytes(), &["häß", "naïve €"]);
    check(b"a\0b\n", &["a\0b"]);
}

#[test]
fn invalid_utf8_is_replaced_or_dropped_and_counted() {
    let input = b"good\nb\xffd\nalso good\n\xe2\x82\n";
    let replaced = read(&[input], &LineOptions::default());
    assert_eq!(replaced.lines, ["good", "b\u{fffd}d", "also good", "\u{fffd}"]);
    assert_eq!(replaced.seen.invalid_utf8_lines, 2);
    let dropped = read(&[input], &LineOptions { invalid: InvalidUtf8::Drop, ..LineOptions::default() });
    assert_eq!(dropped.lines, ["good", "also good"]);
    assert_eq!(dropped.seen.invalid_utf8_lines, 2);
}

#[test]
fn a_long_line_is_refused_and_the_next_one_is_not_lost() {
    let input = b"12345\n123456\n12345\r\n123456\r\nlast\n1234567";
    for size in 1..input.len() {
        let pieces: Vec<&[u8]> = input.chunks(size).collect();
        let read = read(&pieces, &short(5));
        assert_eq!(read.lines, ["12345", "12345", "last"], "in pieces of {size}");
        assert_eq!(read.seen.refused_lines, 3, "in pieces of {size}");
    }
}

#[test]
fn a_long_line_is_not_held() {
    let options = short(10);
    let mut cutter = LineCutter::new(&options);
    for _ in 0..1_000 {
        cutter.cut(&[b'x'; 1_000], &mut |_, _| panic!("no line has ended")).expect("nothing can fail");
        assert!(cutter.partial.capacity() <= 1_024);
    }
    assert_eq!(cutter.take_passed_over(), [0]);
}

#[test]
fn batches_are_cut_at_rows_and_bytes() {
    assert_eq!(read(&[b"1\n2\n3\n4\n5\n6\n7\n"], &LineOptions::default()).batch_rows, [3, 3, 1]);
    let wide = format!("{0}\n{0}\n{0}\n", "x".repeat(25));
    assert_eq!(read(&[wide.as_bytes()], &LineOptions::default()).batch_rows, [1, 1, 1]);
}

#[test]
fn a_broken_stream_loses_its_last_line_and_says_so() {
    let counters = Arc::new(SourceCounters::new("test"));
    let options = LineOptions::default();
    let rows = TextRows::new(options.clone(), text_schema(), Arc::clone(&counters), 10, 1_000);
    let mut stream = LineStream::new(LineCutter::new(&options), rows);
    let mut n_rows = 0;
    let mut emit = |rows: RecordBatch| {
        n_rows += rows.num_rows();
        Ok(())
    };
    stream.add(b"whole\nhal", &mut emit).expect("emit takes all");
    stream.break_off(&mut emit).expect("emit takes all");
    stream.add(b"f\n", &mut emit).expect("emit takes all");
    stream.break_off(&mut emit).expect("emit takes all");
    assert_eq!(n_rows, 2);
    assert_eq!(counters.snapshot().cut_lines, 1);
}

/// The obvious way to read lines.
fn oracle(input: &[u8], options: &LineOptions) -> Vec<String> {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    if lines.last() == Some(&&b""[..]) {
        lines.pop();
    }
    lines
        .into_iter()
        .map(content)
        .filter(|line| line.len() as u64 <= options.line_bytes_max)
        .filter(|line| options.invalid == InvalidUtf8::Replace || std::str::from_utf8(line).is_ok())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(vec![0xff]),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just(b"\xef\xbb".to_vec()),
        Just("€".as_bytes().to_vec()),
        prop::collection::vec(b'a'..b'f', 0..12),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    check(b"\xef\xbb\xbfa\n\xef\xbb\xbfb", &["a", "\u{feff}b"]);
    check(b"\xef\xbb\xbf", &[]);
    check(b"\xef\xbb\xbf\n", &[""]);
    check(b"\xef\xbb", &["\u{fffd}"]);
    check(b"\xef\xbba\n", &["\u{fffd}a"]);
}

proptest! {
    #[test]
    fn law_lines_stand_where_they_are_said_to(
        input in bytes(),
        sizes in prop::collection::vec(1..20_usize, 1..10),
        start in prop_oneof![Just(0_u64), 1..1_000_u64],
        line_bytes_max in 1..20_u64,
    ) {
        let mut cutter = LineCutter::new(&short(line_bytes_max));
        cutter.start_at(start);
        let mut rest = &input[..];
        let at = |position: u64| &input[(position - start) as usize..];
        let mut see = |position: u64, run: &[u8]| {
            // The last line of all is given a line end.
            let found = at(position);
            let n_bytes = run.len().min(found.len());
            assert_eq!(&found[..n_bytes], &run[..n_bytes]);
            assert!(n_bytes == run.len() || &run[n_bytes..] == b"\n");
            Ok(())
        };
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, next) = rest.split_at((*size).min(rest.len()));
            cutter.cut(piece, &mut see).expect("nothing fails");
            rest = next;
        }
        cutter.finish(&mut see).expect("nothing fails");
        for position in cutter.take_passed_over() {
            let starts_line = position == start || position - start == 3 || input[(position - start) as usize - 1] == b'\n';
            prop_assert!(starts_line, "a long line starts at {}", position);
        }
    }

    #[test]
    fn law_the_cuts_do_not_show(
        input in bytes(),
        cuts in prop::collection::vec(1..20_usize, 1..30),
        line_bytes_max in 1..20_u64,
        drop_invalid in any::<bool>(),
    ) {
        let invalid = if drop_invalid { InvalidUtf8::Drop } else { InvalidUtf8::Replace };
        let options = LineOptions { line_bytes_max, invalid };
        let (mut pieces, mut rest) = (Vec::new(), &input[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, next) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = next;
        }
        let read = read(&pieces, &options);
        prop_assert_eq!(read.lines, oracle(&input, &options));
        prop_assert!(read.batch_rows.iter().all(|n_rows| (1..=3).contains(n_rows)));
    }
}
