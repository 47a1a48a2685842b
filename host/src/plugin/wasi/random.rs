//! `wasi:random`: numbers that are the same whenever the same rows are processed again; or, where it is granted, the system's.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::operator::Call;
use crate::plugin::guest::{Guest, Stopped};

/// How many random bytes a guest gets at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What a guest takes for random.
#[derive(Debug)]
pub(crate) enum GuestRandom {
    /// What its rows seed.
    Seeded(Box<SeededRandom>),
    /// What the system gives.
    Real,
}

impl GuestRandom {
    /// The random numbers of an instance of the step `step` of the job `job`, which is about to open.
    pub(crate) fn new(job: &str, step: &str, real: bool) -> Self {
        if real { Self::Real } else { Self::Seeded(Box::new(SeededRandom::new(job, step))) }
    }

    /// Starts the sequences of `call`.
    pub(crate) fn begin_call(&mut self, call: &Call) {
        if let Self::Seeded(random) = self {
            random.begin_call(call);
        }
    }

    fn fill(&mut self, of: fn(&mut SeededRandom) -> &mut ChaCha20Rng, bytes: &mut [u8]) -> wasmtime::Result<()> {
        match self {
            Self::Seeded(random) => of(random).fill_bytes(bytes),
            Self::Real => getrandom::fill(bytes)
                .map_err(|error| wasmtime::format_err!("the system has no random numbers: {error}"))?,
        }
        Ok(())
    }

    fn next_u64(&mut self, of: fn(&mut SeededRandom) -> &mut ChaCha20Rng) -> wasmtime::Result<u64> {
        if let Self::Seeded(random) = self {
            return Ok(of(random).next_u64());
        }
        let mut bytes = [0; 8];
        self.fill(of, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self, of: fn(&mut SeededRandom) -> &mut ChaCha20Rng, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            return Err(Stopped::RandomBytes { asked: len, max: RANDOM_BYTES_MAX }.into());
        }
        let mut bytes = vec![0; len as usize];
        self.fill(of, &mut bytes)?;
        Ok(bytes)
    }
}

/// Random numbers seeded by job, step and call.
///
/// Each call starts its own sequence, so that running it again, in whatever instance, gives the same numbers. The seed
/// that `insecure-seed` gives is the step's alone: languages seed their hash maps with it, once in the life of an
/// instance, and the order in which a map lists its keys must not depend on when the instance was made.
#[derive(Debug)]
pub(crate) struct SeededRandom {
    /// Digest of job and step.
    step: [u8; 32],
    /// The call: its batch, partition and first row. `None` while the instance opens.
    call: Option<(u64, u32, u64)>,
    /// Made at first use in a call.
    secure: Option<ChaCha20Rng>,
    /// The same, another sequence.
    insecure: Option<ChaCha20Rng>,
}

impl SeededRandom {
    fn new(job: &str, step: &str) -> Self {
        let mut digest = Sha256::new_with_prefix(b"tidemill random 1\0");
        for name in [job, step] {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
        }
        Self { step: digest.finalize().into(), call: None, secure: None, insecure: None }
    }

    fn begin_call(&mut self, call: &Call) {
        self.call = Some((call.batch_id.0, call.partition.0, call.first_row));
        (self.secure, self.insecure) = (None, None);
    }

    fn generator(&self, purpose: &[u8]) -> ChaCha20Rng {
        let mut digest = Sha256::new_with_prefix(self.step);
        digest.update(purpose);
        if let Some((batch_id, partition, first_row)) = self.call {
            digest.update(batch_id.to_le_bytes());
            digest.update(partition.to_le_bytes());
            digest.update(first_row.to_le_bytes());
        }
        ChaCha20Rng::from_seed(digest.finalize().into())
    }

    fn secure(&mut self) -> &mut ChaCha20Rng {
        let generator = self.secure.take().unwrap_or_else(|| self.generator(b"secure\0"));
        self.secure.insert(generator)
    }

    fn insecure(&mut self) -> &mut ChaCha20Rng {
        let generator = self.insecure.take().unwrap_or_else(|| self.generator(b"insecure\0"));
        self.insecure.insert(generator)
    }

    fn seed(&self) -> (u64, u64) {
        let mut generator =
            ChaCha20Rng::from_seed(Sha256::new_with_prefix(self.step).chain_update(b"seed\0").finalize().into());
        (generator.next_u64(), generator.next_u64())
    }
}

impl random::Host for Guest {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(SeededRandom::secure, len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.next_u64(SeededRandom::secure)
    }
}

impl insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(SeededRandom::insecure, len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.next_u64(SeededRandom::insecure)
    }
}

impl insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        match &self.random {
            GuestRandom::Seeded(random) => Ok(random.seed()),
            GuestRandom::Real => {
                Ok((self.random.next_u64(SeededRandom::insecure)?, self.random.next_u64(SeededRandom::insecure)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BatchId, PartitionId};

    fn call(batch_id: u64, partition: u32, attempt: u32, first_row: u64) -> Call {
        Call {
            batch_id: BatchId(batch_id),
            batch_time_us: 0,
            partition: PartitionId(partition),
            attempt,
            first_row,
            watermark_us: None,
        }
    }

    fn first(random: &mut SeededRandom, call: &Call) -> (u64, u64) {
        random.begin_call(call);
        (random.secure().next_u64(), random.insecure().next_u64())
    }

    #[test]
    fn the_same_rows_get_the_same_numbers() {
        let mut random = SeededRandom::new("job", "step");
        let numbers = first(&mut random, &call(1, 2, 0, 3));
        assert_ne!(numbers.0, numbers.1);
        assert_eq!(numbers, first(&mut random, &call(1, 2, 0, 3)));
        assert_eq!(numbers, first(&mut SeededRandom::new("job", "step"), &call(1, 2, 5, 3)), "another attempt");
        for other in [call(2, 2, 0, 3), call(1, 3, 0, 3), call(1, 2, 0, 4)] {
            assert_ne!(numbers, first(&mut random, &other));
        }
        assert_ne!(numbers, first(&mut SeededRandom::new("jo", "bstep"), &call(1, 2, 0, 3)));
    }

    #[test]
    fn numbers_are_fixed_for_ever() {
        // A replay by a later version must give what this one gave.
        assert_eq!(
            first(&mut SeededRandom::new("job", "step"), &call(1, 2, 0, 3)),
            (15000230634016068403, 14112128060738347485)
        );
    }

    #[test]
    fn the_seed_of_hash_maps_is_the_steps() {
        let mut random = SeededRandom::new("job", "step");
        let seed = random.seed();
        random.begin_call(&call(1, 2, 0, 3));
        assert_eq!(seed, random.seed());
        assert_ne!(seed, SeededRandom::new("job", "other").seed());
    }

    #[test]
    fn real_numbers_are_others_each_time() {
        let number = |random: &mut GuestRandom| {
            random.begin_call(&call(1, 2, 0, 3));
            random.next_u64(SeededRandom::secure).unwrap()
        };
        let mut real = GuestRandom::new("job", "step", true);
        assert_ne!(number(&mut real), number(&mut real));
        let mut seeded = GuestRandom::new("job", "step", false);
        assert_eq!(number(&mut seeded), number(&mut seeded));
        assert_eq!(real.bytes(SeededRandom::insecure, 100).unwrap().len(), 100);
        assert!(real.bytes(SeededRandom::insecure, RANDOM_BYTES_MAX + 1).is_err());
    }
}
