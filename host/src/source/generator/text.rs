//! Lines of words whose frequencies follow Zipf's law, as those of any natural language do.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The most words a vocabulary may have: 24 bytes each.
pub const VOCABULARY_MAX: u32 = 10_000_000;

/// Letters from the most to the least frequent.
const LETTERS: &[u8; 26] = b"etaoinshrdlucmfwypvbgkjqxz";

/// Bytes of a word's place in the table; the longest word of the largest vocabulary has 13.
const SLOT_BYTES: usize = 16;

/// What text to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct ZipfOptions {
    /// The same seed gives the same text, in every version.
    pub seed: u64,
    /// Different words; at least 1, at most [`VOCABULARY_MAX`].
    pub vocabulary: u32,
    /// The probability of the word of rank `r` is proportional to `1 / r^exponent`. 0: all are equally frequent.
    pub exponent: f64,
    /// The fewest words of a line; at least 1.
    pub line_words_min: u32,
    /// The most words of a line.
    pub line_words_max: u32,
}

impl Default for ZipfOptions {
    /// 100,000 words, the frequencies of English, and 5 to 15 words a line, some 60 bytes.
    fn default() -> Self {
        Self { seed: 42, vocabulary: 100_000, exponent: 1.0, line_words_min: 5, line_words_max: 15 }
    }
}

/// Options that make no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ZipfError {
    /// The option, as in `vocabulary`.
    pub option: &'static str,
    /// What is wrong.
    pub message: String,
}

impl ZipfOptions {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), ZipfError> {
        let problem = |option, message: &str| Err(ZipfError { option, message: message.into() });
        if !(1..=VOCABULARY_MAX).contains(&self.vocabulary) {
            return problem("vocabulary", "`vocabulary` must be from 1 to 10000000 words");
        }
        if !(0.0..=10.0).contains(&self.exponent) {
            return problem("exponent", "`exponent` must be from 0 to 10");
        }
        if self.line_words_min == 0 || self.line_words_max < self.line_words_min || self.line_words_max > 10_000 {
            return problem("line-words", "a line must have from 1 to 10000 words, and no more at least than at most");
        }
        Ok(())
    }
}

/// Generates lines of text, at some hundred megabytes a second.
///
/// # Examples
///
/// ```
/// use tidemill::source::generator::text::{ZipfOptions, ZipfText};
///
/// let mut text = ZipfText::new(ZipfOptions::default())?;
/// let mut line = Vec::new();
/// text.write_line(&mut line);
/// assert!((5..=15).contains(&line.split(|byte| *byte == b' ').count()));
/// # Ok::<(), tidemill::source::generator::text::ZipfError>(())
/// ```
///
/// # Source
///
/// Vose's alias method (M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", 1991):
/// one random number and one look at a table a word, whatever the distribution. The numbers are ChaCha8's, because its
/// output is fixed by its definition.
#[derive(Debug, Clone)]
pub struct ZipfText {
    random: ChaCha8Rng,
    /// One slot a word, the most frequent first.
    words: Vec<Slot>,
    /// One entry a word.
    alias: Vec<Alias>,
    line_words_min: u32,
    line_words_span: u32,
}

/// A word, and how long it is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The word, and the space after it, filled up with zeros.
    bytes: [u8; SLOT_BYTES],
    len: u8,
}

/// A column of the alias table: below the threshold it is the column's own word, above it the other.
#[derive(Debug, Clone, Copy)]
struct Alias {
    threshold: u32,
    other: u32,
}

impl ZipfText {
    /// A generator at the start of its text.
    ///
    /// # Errors
    ///
    /// See [`ZipfOptions::check`].
    pub fn new(options: ZipfOptions) -> Result<Self, ZipfError> {
        options.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        let words = make_words(options.vocabulary as usize, &mut random);
        Ok(Self {
            random,
            words,
            alias: make_alias(options.vocabulary, options.exponent),
            line_words_min: options.line_words_min,
            line_words_span: options.line_words_max - options.line_words_min + 1,
        })
    }

    /// Appends a line, without a line end.
    pub fn write_line(&mut self, line: &mut Vec<u8>) {
        let n_words = self.line_words_min + scale(self.random.next_u32(), self.line_words_span);
        line.reserve(n_words as usize * SLOT_BYTES);
        for _ in 0..n_words {
            let rank = self.next_rank();
            let slot = self.words[rank];
            // Copying a whole slot is one instruction; what is too much is cut off again.
            let len = line.len() + slot.len as usize + 1;
            line.extend_from_slice(&slot.bytes);
            line.truncate(len);
        }
        // The space after the last word.
        line.pop();
    }

    /// The words, the most frequent first.
    pub fn vocabulary(&self) -> impl ExactSizeIterator<Item = &str> {
        // Words are made of ASCII letters.
        self.words.iter().map(|slot| std::str::from_utf8(&slot.bytes[..slot.len as usize]).unwrap_or(""))
    }

    fn next_rank(&mut self) -> usize {
        let number = self.random.next_u64();
        // The two halves are independent: one picks the column, the other the side of the threshold.
        let column = scale(number as u32, self.alias.len() as u32);
        let Alias { threshold, other } = self.alias[column as usize];
        if (number >> 32) as u32 <= threshold { column as usize } else { other as usize }
    }
}

/// A number below `n`, from a random one of 32 bits. The bias is below one in four thousand for the largest `n`.
fn scale(random: u32, n: u32) -> u32 {
    ((u64::from(random) * u64::from(n)) >> 32) as u32
}

/// Random words, all different: the more frequent, the shorter.
fn make_words(n_words: usize, random: &mut ChaCha8Rng) -> Vec<Slot> {
    let mut words: Vec<Slot> = Vec::with_capacity(n_words);
    let mut seen = HashSet::with_capacity(n_words);
    while words.len() < n_words {
        // 2 to 4 letters for the first words, 8 to 10 for the hundred-thousandth.
        let len = 2 + (((words.len() + 1) as f64).log10() * 1.3) as usize + scale(random.next_u32(), 3) as usize;
        let mut bytes = [0; SLOT_BYTES];
        for letter in &mut bytes[..len] {
            let x = f64::from(random.next_u32()) / (f64::from(u32::MAX) + 1.0);
            // Squared: small numbers, and so frequent letters, are frequent.
            *letter = LETTERS[(x * x * 26.0) as usize];
        }
        if seen.insert(bytes) {
            bytes[len] = b' ';
            words.push(Slot { bytes, len: len as u8 });
        }
    }
    words
}

fn make_alias(n_words: u32, exponent: f64) -> Vec<Alias> {
    let weights: Vec<f64> = (1..=n_words).map(|rank| f64::from(rank).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    // Each column is to hold 1; a word has as much as its probability times the columns.
    let mut left: Vec<f64> = weights.iter().map(|weight| weight / total * f64::from(n_words)).collect();
    let mut alias: Vec<Alias> = (0..n_words).map(|own| Alias { threshold: u32::MAX, other: own }).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..n_words).partition(|own| left[*own as usize] < 1.0);
    while let (Some(own), Some(&other)) = (small.pop(), large.last()) {
        let share = left[own as usize];
        alias[own as usize] = Alias { threshold: (share * (f64::from(u32::MAX) + 1.0)) as u32, other };
        left[other as usize] -= 1.0 - share;
        if left[other as usize] < 1.0 {
            large.pop();
            small.push(other);
        }
    }
    // What remains is whole but for rounding, and its threshold is the highest.
    alias
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn lines(options: ZipfOptions, n_lines: usize) -> Vec<String> {
        let mut text = ZipfText::new(options).expect("good options");
        let line = |_| {
            let mut line = Vec::new();
            text.write_line(&mut line);
            String::from_utf8(line).expect("ASCII")
        };
        (0..n_lines).map(line).collect()
    }

    #[test]
    fn the_text_is_fixed_by_its_seed() {
        let first = lines(ZipfOptions::default(), 100);
        assert_eq!(first, lines(ZipfOptions::default(), 100));
        assert_ne!(first, lines(ZipfOptions { seed: 43, ..ZipfOptions::default() }, 100));
        // Whoever changes the text changes what benchmarks measure: keep it.
        assert_eq!(first[0], FIRST_LINE);
    }

    const FIRST_LINE: &str =
        "sots wxmesduka jcrxecd ce enacspo eepeeyd tuafeh lyslgc mosykt cwrncpn beatv fnte iavxwmxl";

    #[test]
    fn words_are_as_frequent_as_zipf_says() {
        let options = ZipfOptions { vocabulary: 1_000, ..ZipfOptions::default() };
        let text = ZipfText::new(options.clone()).expect("good options");
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut n_words = 0;
        for line in lines(options, 50_000) {
            for word in line.split(' ') {
                *counts.entry(word.into()).or_default() += 1;
                n_words += 1;
            }
        }
        let harmonic: f64 = (1..=1_000).map(|rank| 1.0 / f64::from(rank)).sum();
        for (index, word) in text.vocabulary().enumerate() {
            let expected = f64::from(n_words) / harmonic / (index + 1) as f64;
            let found = f64::from(counts.get(word).copied().unwrap_or(0));
            // Six standard deviations: once in a billion by chance, and the seed is fixed.
            assert!((found - expected).abs() < 6.0 * expected.sqrt(), "rank {}: {found} of {expected}", index + 1);
        }
        assert!((f64::from(n_words) / 50_000.0 - 10.0).abs() < 0.1, "5 to 15 words, 10 on average");
    }

    #[test]
    fn words_differ_and_grow_with_their_rank() {
        let text = ZipfText::new(ZipfOptions::default()).expect("good options");
        let words: Vec<&str> = text.vocabulary().collect();
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), 100_000);
        assert!(words[..100].iter().all(|word| (2..=6).contains(&word.len())));
        assert!(words[99_000..].iter().all(|word| (8..=10).contains(&word.len())));
    }

    #[test]
    fn a_vocabulary_of_one_and_an_even_one_work() {
        let one = ZipfOptions { vocabulary: 1, line_words_min: 1, line_words_max: 1, ..ZipfOptions::default() };
        let lines = lines(one, 10);
        assert!(lines.iter().all(|line| *line == lines[0] && !line.is_empty()));
        let even = make_alias(10, 0.0);
        assert!(
            even.iter().enumerate().all(|(own, alias)| alias.other as usize == own || alias.threshold > u32::MAX - 10)
        );
    }

    #[track_caller]
    fn check_wrong(options: ZipfOptions, option: &str) {
        assert_eq!(ZipfText::new(options).map(|_| ()).map_err(|error| error.option), Err(option));
    }

    #[test]
    fn wrong_options_are_refused() {
        check_wrong(ZipfOptions { vocabulary: 0, ..ZipfOptions::default() }, "vocabulary");
        check_wrong(ZipfOptions { vocabulary: u32::MAX, ..ZipfOptions::default() }, "vocabulary");
        check_wrong(ZipfOptions { exponent: f64::NAN, ..ZipfOptions::default() }, "exponent");
        check_wrong(ZipfOptions { line_words_min: 0, ..ZipfOptions::default() }, "line-words");
        check_wrong(ZipfOptions { line_words_max: 4, ..ZipfOptions::default() }, "line-words");
    }
}
