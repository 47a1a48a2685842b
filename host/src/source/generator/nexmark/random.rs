//! Numbers that look random and can be had in any order, and a store of text to cut pieces from.

/// Bytes of a pool, without the longest piece: a number of 16 bits is a place in it.
const POOL_BYTES: usize = 1 << 16;

/// The longest piece that is cut from a pool.
const PIECE_BYTES_MAX: usize = 512;

/// The odd number next to 2^64 divided by the golden ratio: its multiples are spread evenly.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// A sequence of numbers, each of which can be had without those before it.
///
/// # Source
///
/// The sequence of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014),
/// whose n-th number is a fixed function of the seed and `n`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    start: u64,
}

impl Numbers {
    /// The sequence for one purpose: those for two purposes have nothing to do with one another.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self { start: mix(mix(seed).wrapping_add(purpose.wrapping_mul(STRIDE))) }
    }

    /// The number at a place.
    pub(super) fn at(self, place: u64) -> u64 {
        mix(self.start.wrapping_add(place.wrapping_mul(STRIDE)))
    }

    /// The number at a place, scaled to one below `n`.
    pub(super) fn below(self, place: u64, n: u64) -> u64 {
        scale(self.at(place), n)
    }
}

/// A number below `n`, from a random one. The bias is below `n / 2^64`.
pub(super) fn scale(random: u64, n: u64) -> u64 {
    ((u128::from(random) * u128::from(n)) >> 64) as u64
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Text to cut pieces from: copying one is faster than making one up.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    bytes: Vec<u8>,
}

impl Pool {
    /// Lower-case letters.
    pub(super) fn letters(numbers: Numbers) -> Self {
        let letter = |place| b'a' + numbers.below(place, 26) as u8;
        Self { bytes: (0..(POOL_BYTES + PIECE_BYTES_MAX) as u64).map(letter).collect() }
    }

    /// Lower-case letters with a space after every six or so; no two spaces stand side by side.
    pub(super) fn words(numbers: Numbers) -> Self {
        let mut pool = Self::letters(numbers);
        let mut at = 0;
        while at < pool.bytes.len() {
            at += 2 + scale(numbers.at(u64::MAX - at as u64), 10) as usize;
            if let Some(byte) = pool.bytes.get_mut(at) {
                *byte = b' ';
            }
        }
        pool
    }

    /// A piece of from `len_min` to `len_max` bytes, chosen by a random number.
    pub(super) fn piece(&self, random: u64, len_min: usize, len_max: usize) -> &[u8] {
        let start = random as usize % POOL_BYTES;
        let span = (len_max - len_min + 1) as u64;
        // The upper half of the number: the lower one has chosen the start.
        let len = len_min + (((random >> 32) * span) >> 32) as usize;
        &self.bytes[start..start + len.min(PIECE_BYTES_MAX)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_split_mix() {
        // Steele, Lea and Flood's generator with the seed 0 gives these first: place 0 is its start, and gives nothing.
        let from_zero = Numbers { start: 0 };
        let first = [1, 2, 3].map(|place| from_zero.at(place));
        assert_eq!(first, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn purposes_and_seeds_differ() {
        let first = |seed, purpose| Numbers::new(seed, purpose).at(0);
        assert_ne!(first(1, 1), first(1, 2));
        assert_ne!(first(1, 1), first(2, 1));
        assert_eq!(first(1, 1), first(1, 1));
    }

    #[test]
    fn scaled_numbers_are_even() {
        let numbers = Numbers::new(7, 0);
        let mut counts = [0_u32; 10];
        (0..100_000).for_each(|place| counts[numbers.below(place, 10) as usize] += 1);
        // Five standard deviations of 95.
        assert!(counts.iter().all(|n| n.abs_diff(10_000) < 475), "{counts:?}");
    }

    #[test]
    fn pieces_have_the_lengths_that_were_asked_for() {
        let numbers = Numbers::new(7, 1);
        let (letters, words) = (Pool::letters(numbers), Pool::words(numbers));
        let mut lengths = [0; 4];
        for place in 0..10_000 {
            let piece = letters.piece(numbers.at(place), 2, 5);
            lengths[piece.len() - 2] += 1;
            assert!(piece.iter().all(u8::is_ascii_lowercase));
            let piece = words.piece(numbers.at(place), 40, PIECE_BYTES_MAX);
            assert!(piece.contains(&b' ') && !piece.windows(2).any(|pair| pair == b"  "));
        }
        assert!(lengths.iter().all(|n| (2_200..2_800).contains(n)), "{lengths:?}");
        assert_eq!(letters.piece(u64::MAX, 1, PIECE_BYTES_MAX).len(), PIECE_BYTES_MAX);
    }
}
