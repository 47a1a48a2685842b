//! Text at the speed of columns: sixteen bytes at a time where the processor can, eight elsewhere.

use std::iter::FusedIterator;

/// The words of a text: what stands between ASCII white space.
///
/// It gives what [`str::split_ascii_whitespace`] gives. That looks at one byte at a time, which is slow in WebAssembly,
/// where every turn of a loop also asks whether the call's time is over.
///
/// # Examples
///
/// ```
/// let words: Vec<_> = tidemill_guest::text::words(" the tide\tturns\n").collect();
/// assert_eq!(words, ["the", "tide", "turns"]);
/// ```
#[must_use]
#[inline]
pub fn words(text: &str) -> Words<'_> {
    let mut words = Words { text, block: 0, white: 0 };
    words.white = words.white_in_block();
    words
}

/// The iterator of [`words`].
#[derive(Debug, Clone)]
pub struct Words<'a> {
    text: &'a str,
    /// Where the block of 64 bytes begins that `white` is of.
    block: usize,
    /// One bit a byte of the block: whether it is white space. Bytes before the next word count as white, and so does
    /// everything behind the text.
    white: u64,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        while self.white == u64::MAX {
            if !self.go_on() {
                return None;
            }
        }
        let first = (!self.white).trailing_zeros();
        let start = self.block + first as usize;
        // What is before the word is no white space any more: the next bit that is set ends it.
        self.white &= u64::MAX << first;
        while self.white == 0 {
            // The block ends in the word. Behind the text everything is white: there is a block in which it ends.
            self.go_on();
        }
        let last = self.white.trailing_zeros();
        let end = (self.block + last as usize).min(self.text.len());
        // Everything up to the word's end is over.
        self.white |= !(u64::MAX << last);
        // SAFETY: both are positions beside ASCII bytes, or the ends of the text, so between characters; `start` is that of
        // a byte that is not white, and `end` of a later one that is, so `start < end <= len`.
        Some(unsafe { self.text.get_unchecked(start..end) })
    }
}

impl FusedIterator for Words<'_> {}

impl Words<'_> {
    /// Goes to the next block; false behind the last, which is all white.
    #[inline]
    fn go_on(&mut self) -> bool {
        self.block += 64;
        self.white = self.white_in_block();
        self.block < self.text.len()
    }

    /// Which bytes of the block are white space.
    #[inline]
    fn white_in_block(&self) -> u64 {
        let bytes = self.text.as_bytes().get(self.block..).unwrap_or_default();
        match bytes.first_chunk::<64>() {
            Some(block) => white_in_full_block(block),
            None => white_in_last_block(bytes),
        }
    }
}

#[inline]
fn white_in_full_block(block: &[u8; 64]) -> u64 {
    let mut white = 0;
    for (index, piece) in block.as_chunks::<PIECE>().0.iter().enumerate() {
        white |= white_in_piece(piece) << (index * PIECE);
    }
    white
}

/// As [`white_in_full_block`], for less than 64 bytes: those that are missing are white.
#[inline]
fn white_in_last_block(bytes: &[u8]) -> u64 {
    let (pieces, rest) = bytes.as_chunks::<PIECE>();
    let mut white = 0;
    for (index, piece) in pieces.iter().enumerate() {
        white |= white_in_piece(piece) << (index * PIECE);
    }
    if !rest.is_empty() {
        let done = pieces.len() * PIECE;
        white |= match bytes.last_chunk::<PIECE>() {
            // Some of it has been looked at: that is shifted out.
            Some(piece) => (white_in_piece(piece) >> (PIECE - rest.len())) << done,
            None => {
                let mut piece = [b' '; PIECE];
                for (to, from) in piece.iter_mut().zip(rest) {
                    *to = *from;
                }
                white_in_piece(&piece)
            }
        };
    }
    // A shift by 64 would be none: there are less than 64 bytes.
    white | (u64::MAX << bytes.len())
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
const PIECE: usize = 16;

/// One bit a byte: whether it is space, tab, line feed, form feed or carriage return.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline]
fn white_in_piece(piece: &[u8; PIECE]) -> u64 {
    use std::arch::wasm32::{
        i8x16_bitmask, i8x16_eq, i8x16_splat, i8x16_sub, u8x16_lt, u8x16_splat, v128, v128_andnot, v128_load, v128_or,
    };
    // SAFETY: the piece has the 16 bytes that are loaded, and the load needs no alignment.
    let bytes = unsafe { v128_load(piece.as_ptr().cast::<v128>()) };
    let controls = u8x16_lt(i8x16_sub(bytes, i8x16_splat(0x09)), u8x16_splat(5));
    let controls = v128_andnot(controls, i8x16_eq(bytes, i8x16_splat(0x0B)));
    u64::from(i8x16_bitmask(v128_or(controls, i8x16_eq(bytes, i8x16_splat(0x20)))))
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
const PIECE: usize = 8;

/// One bit a byte: whether it is space, tab, line feed, form feed or carriage return.
///
/// Eight bytes in one number, each compared by an addition that carries into its highest bit and no further (Henry S.
/// Warren, Hacker's Delight, 6-1).
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline]
fn white_in_piece(piece: &[u8; PIECE]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(*piece);
    let low = bytes & (EACH * 0x7F);
    let is_not = |byte: u64| (low ^ (EACH * byte)) + EACH * 0x7F;
    let at_least_9 = low + EACH * (0x80 - 9);
    let at_least_14 = low + EACH * (0x80 - 14);
    let white = (at_least_9 & !at_least_14 & is_not(0x0B)) | !is_not(0x20);
    let white = white & !bytes & (EACH * 0x80);
    // The highest bits of the eight bytes, side by side.
    (white >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str) {
        let expected: Vec<_> = text.split_ascii_whitespace().collect();
        assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
    }

    #[test]
    fn words_are_those_of_the_standard_library() {
        for text in ["", " ", "a", " a", "a ", "a b", "\ta\nb\x0Cc\rd\x0Be", "été\u{a0}à la\u{2003}mer  \u{80}x"] {
            check(text);
        }
        for byte in 0..=0x7F_u8 {
            check(&format!("a{}b", byte as char));
        }
    }

    #[test]
    fn words_may_end_at_every_place_of_a_block() {
        for n_before in 0..140 {
            for n_word in [1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129] {
                for n_after in [0, 1, 5, 63, 64, 70] {
                    check(&format!("{}{}{}", " ".repeat(n_before), "x".repeat(n_word), " ".repeat(n_after)));
                    check(&format!("{} {}{}", "y".repeat(n_before), "é".repeat(n_word), " z".repeat(n_after)));
                }
            }
        }
    }
}
