//! Zipf text: lines of 5 to 15 words of a vocabulary in which the word of rank r comes 1/r times as often as the first.

use std::collections::HashSet;

/// Letters by falling frequency.
const LETTERS: &[u8; 26] = b"etaoinshrdlucmfwypvbgkjqxz";

/// Slots of the table that says where in the vocabulary to start looking: most hold one word or none.
const GUIDES: usize = 1 << 16;

/// An endless text, the same for the same seed.
///
/// The distribution is fixed: 100,000 words, frequent ones short (2 to 4 letters at the first rank, 8 to 10 at the last),
/// word lengths and line lengths uniform in their ranges.
#[derive(Debug, Clone)]
pub struct ZipfText {
    /// All words, one after the other, each followed by a space.
    letters: Vec<u8>,
    /// Where each word starts in `letters`; one more than there are words.
    starts: Vec<u32>,
    /// For each word, the share of the words up to it, in units of 2^-32.
    shares: Vec<u32>,
    /// For each upper half of a share, the first word that may have it.
    guides: Vec<u32>,
    random: Random,
}

/// Words in the vocabulary.
pub const VOCABULARY: usize = 100_000;

impl ZipfText {
    /// The text of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut seen = HashSet::with_capacity(VOCABULARY);
        let (mut letters, mut starts) = (Vec::new(), vec![0]);
        while seen.len() < VOCABULARY {
            let rank = seen.len() as f64 + 1.0;
            let length = 2 + (rank.log10() * 1.3) as usize + random.below(3) as usize;
            let word: Vec<u8> = (0..length).map(|_| random.letter()).collect();
            if seen.insert(word.clone()) {
                letters.extend(word);
                letters.push(b' ');
                starts.push(letters.len() as u32);
            }
        }
        let total: f64 = (1..=VOCABULARY).map(|rank| 1.0 / rank as f64).sum();
        let mut sum = 0.0;
        let mut shares: Vec<u32> = (1..=VOCABULARY)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                (sum / total * f64::from(u32::MAX)) as u32
            })
            .collect();
        // Rounding must not leave shares that no word has.
        shares[VOCABULARY - 1] = u32::MAX;
        let guides = (0..GUIDES as u32).map(|upper| shares.partition_point(|share| *share < upper << 16) as u32);
        Self { guides: guides.collect(), letters, starts, shares, random }
    }

    /// Adds one line, and says how many words it has.
    pub fn push_line(&mut self, text: &mut Vec<u8>) -> u32 {
        let n_words = 5 + self.random.below(11);
        for _ in 0..n_words {
            let share = self.random.next();
            let mut rank = self.guides[(share >> 16) as usize] as usize;
            while self.shares[rank] < share {
                rank += 1;
            }
            text.extend_from_slice(&self.letters[self.starts[rank] as usize..self.starts[rank + 1] as usize]);
        }
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
        n_words
    }
}

/// splitmix64, its upper half.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// A number below `n`; the bias of 2^-32 n does not matter here.
    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    /// A letter, the first the most frequent.
    fn letter(&mut self) -> u8 {
        let x = f64::from(self.next()) / (f64::from(u32::MAX) + 1.0);
        LETTERS[((x * x * 26.0) as usize).min(25)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn lines(seed: u64, n_lines: usize) -> Vec<u8> {
        let (mut source, mut text) = (ZipfText::new(seed), Vec::new());
        (0..n_lines).for_each(|_| {
            source.push_line(&mut text);
        });
        text
    }

    #[test]
    fn a_seed_gives_one_text() {
        assert_eq!(lines(1, 100), lines(1, 100));
        assert_ne!(lines(1, 100), lines(2, 100));
    }

    #[test]
    fn lines_have_5_to_15_words_of_the_expected_lengths() {
        let text = String::from_utf8(lines(42, 20_000)).expect("letters and spaces");
        let lengths: Vec<usize> = text.lines().map(|line| line.split(' ').count()).collect();
        assert_eq!(lengths.len(), 20_000);
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&5), Some(&15)));
        let mean = lengths.iter().sum::<usize>() as f64 / 20_000.0;
        assert!((9.9..10.1).contains(&mean), "{mean}");
        assert!(text.split_whitespace().all(|word| (2..=10).contains(&word.len())));
        let bytes_per_line = text.len() as f64 / 20_000.0;
        assert!((55.0..75.0).contains(&bytes_per_line), "{bytes_per_line}");
    }

    #[test]
    fn the_first_word_is_twice_as_frequent_as_the_second() {
        let text = String::from_utf8(lines(7, 50_000)).expect("letters and spaces");
        let mut counts: HashMap<&str, u32> = HashMap::new();
        text.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let (first, second, tenth) = (f64::from(counts[0]), f64::from(counts[1]), f64::from(counts[9]));
        assert!((1.9..2.1).contains(&(first / second)), "{first} {second}");
        assert!((9.0..11.0).contains(&(first / tenth)), "{first} {tenth}");
    }
}
