//! Draws aligned columns of text that a terminal takes for nothing but text.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A value, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    /// Columns it takes on a terminal.
    width: usize,
}

/// A column's head.
#[derive(Debug)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: Cell,
    /// Whether its values stand at the right, as numbers do.
    pub(super) right: bool,
}

impl Cell {
    /// Cuts a text to so many terminal columns; what was cut ends in `…`.
    pub(super) fn new(text: &str, width_max: usize) -> Self {
        let width = text.width();
        if width <= width_max {
            return Self { text: text.into(), width };
        }
        let mut cut = Self { text: String::new(), width: 0 };
        for letter in text.chars() {
            let letter_width = letter.width().unwrap_or(0);
            if cut.width + letter_width + 1 > width_max {
                break;
            }
            cut.text.push(letter);
            cut.width += letter_width;
        }
        cut.text.push('…');
        cut.width += 1;
        cut
    }
}

/// The text with escapes for everything that is no letter, sign or space: what moves the cursor, sets colours, rings,
/// or turns the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if letter.is_control() || is_invisible(letter) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => shown.push(letter),
        }
    }
    shown
}

/// Characters that show as nothing and change how others show: marks of direction, separators, tags.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Draws a head, a rule and the rows. Nothing stands behind the last letter of a line.
pub(super) fn draw(columns: &[Column], rows: &[Vec<Cell>], text: &mut String) {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.width);
            cells.max().unwrap_or(0).max(column.name.width)
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &Cell>| {
        let mut drawn = String::new();
        for (index, cell) in cells.enumerate() {
            let space = " ".repeat(widths[index].saturating_sub(cell.width));
            let gap = if index == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = if columns[index].right {
                write!(drawn, "{gap}{space}{}", cell.text)
            } else {
                write!(drawn, "{gap}{}{space}", cell.text)
            };
        }
        text.push_str(drawn.trim_end());
        text.push('\n');
    };
    let rules: Vec<Cell> = widths.iter().map(|width| Cell { text: "─".repeat(*width), width: *width }).collect();
    line(&mut columns.iter().map(|column| &column.name));
    line(&mut rules.iter());
    for row in rows {
        line(&mut row.iter());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_printable(text: &str, expected: &str) {
        assert_eq!(printable(text), expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        check_printable("plain, häßlich, 漢字", "plain, häßlich, 漢字");
        check_printable("\x1b[2J\x07", "\\u{1b}[2J\\u{7}");
        check_printable("a\nb\tc\r", "a\\nb\\tc\\r");
        check_printable("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}");
        check_printable("abc\u{202e}txt", "abc\\u{202e}txt");
    }

    #[track_caller]
    fn check_cut(text: &str, width_max: usize, expected: &str) {
        let cell = Cell::new(text, width_max);
        assert_eq!(cell.text, expected);
        assert!(cell.width <= width_max);
    }

    #[test]
    fn long_values_are_cut() {
        check_cut("12345", 5, "12345");
        check_cut("123456", 5, "1234…");
        check_cut("漢字漢字", 5, "漢字…");
        check_cut("漢字漢字", 4, "漢…");
        check_cut("ab", 1, "…");
        check_cut("", 1, "");
    }

    #[test]
    fn columns_line_up() {
        let cell = |text: &str| Cell::new(text, 40);
        let columns = [Column { name: cell("word"), right: false }, Column { name: cell("n"), right: true }];
        let rows =
            vec![vec![cell("the"), cell("12345")], vec![cell("漢字漢"), cell("7")], vec![cell(""), cell("null")]];
        let mut text = String::new();
        draw(&columns, &rows, &mut text);
        assert_eq!(text, "word        n\n──────  ─────\nthe     12345\n漢字漢      7\n         null\n");
    }

    proptest! {
        #[test]
        fn nothing_printed_controls_a_terminal(text in "\\PC*|[\\x00-\\x9f]*|.*") {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(Cell::new(&shown, 10).text.width() <= 10);
        }
    }
}
