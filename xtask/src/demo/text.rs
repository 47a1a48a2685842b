//! Text for the demo: lines of real words, the first of them the most frequent, as in any language.

/// Words by falling frequency: word n comes 1/n times as often as the first.
const WORDS: &str = "the tide and water of a mill in to wheel sea with stream grain at by moon river flows under stone \
    high low shore wind gate rises falls turns grinds flour miller sluice pond channel harbour boat sail wave salt \
    marsh gull heron reed sand pebble rope anchor lantern dawn dusk night storm calm fog rain cloud star north south \
    east west current ebb flood spring neap estuary creek bank dam weir race axle gear cog shaft hopper sack barley \
    wheat oats rye bread oven hearth village bridge road cart horse market bell tower clock hour season winter summer \
    autumn fish eel crab oyster mussel net basket ferry oar keel mast deck plank nail timber oak elm ash willow slow \
    steady old deep shallow clear grey silver green cold warm quiet loud early late always never again once twice \
    every between beyond beneath above around along across after before until while";

/// An endless text, the same at every start.
pub(crate) struct Text {
    words: Vec<&'static str>,
    /// For each word, the share of words up to it, in units of 2^-32 of all.
    shares: Vec<u32>,
    random: u64,
}

impl Text {
    pub(crate) fn new() -> Self {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let total: f64 = (1..=words.len()).map(|rank| 1.0 / rank as f64).sum();
        let mut sum = 0.0;
        let shares = (1..=words.len()).map(|rank| {
            sum += 1.0 / rank as f64;
            (sum / total * f64::from(u32::MAX)) as u32
        });
        Self { shares: shares.collect(), words, random: 42 }
    }

    /// Adds a line of 5 to 15 words.
    pub(crate) fn push_line(&mut self, lines: &mut String) {
        let n_words = 5 + self.next() % 11;
        for index in 0..n_words {
            if index > 0 {
                lines.push(' ');
            }
            let share = self.next();
            let rank = self.shares.partition_point(|limit| *limit < share);
            // The last share may be rounded down.
            lines.push_str(self.words[rank.min(self.words.len() - 1)]);
        }
        lines.push('\n');
    }

    /// The next number of splitmix64, its upper half.
    fn next(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_are_frequent() {
        let mut text = Text::new();
        let mut lines = String::new();
        (0..10_000).for_each(|_| text.push_line(&mut lines));
        let count = |word: &str| lines.split_whitespace().filter(|other| *other == word).count();
        assert_eq!(lines.lines().count(), 10_000);
        let (first, second, last) = (count("the"), count("tide"), count("while"));
        assert!((15..25).contains(&(first * 10 / second)), "{first} to {second}");
        assert!(last > 0 && last * 50 < first, "{last} to {first}");
    }

    #[test]
    fn no_word_stands_twice() {
        let mut words = Text::new().words;
        let n_words = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), n_words);
    }
}
