//! One record per connection, so that a parent can tell the time of a flip from
//! the time before: little endian, packed, in the order the connections ended.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Outcome, report::micros};

/// What became of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was opened: see [`monotonic_us`](super::monotonic_us).
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub latency_us: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The generation that answered; zero if none did.
    pub generation: u32,
}

/// Reads a file of samples.
///
/// # Errors
///
/// As [`each`].
pub fn read(path: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    each(path, |sample| samples.push(sample))?;
    Ok(samples)
}

/// Reads a file of samples that need not fit into memory.
///
/// # Errors
///
/// When it cannot be read, is cut short or holds an unknown outcome.
pub fn each(path: &Path, mut f: impl FnMut(Sample)) -> Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("open {name}"))?;
    let length = file
        .metadata()
        .with_context(|| format!("read {name}"))?
        .len();
    ensure!(length.is_multiple_of(SIZE as u64), "{name}: cut short");
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut record = [0; SIZE];
    for _ in 0..length / SIZE as u64 {
        file.read_exact(&mut record)
            .with_context(|| format!("read {name}"))?;
        f(decode(&record).with_context(|| format!("{name}: bad record"))?);
    }
    Ok(())
}

pub(super) struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { file })
    }

    pub(super) fn add(
        &mut self,
        start_us: u64,
        latency: Duration,
        outcome: Outcome,
        generation: u32,
    ) -> Result<()> {
        let sample = Sample {
            start_us,
            latency_us: micros(latency).try_into().unwrap_or(u32::MAX),
            outcome,
            generation,
        };
        self.file
            .write_all(&encode(&sample))
            .context("write a sample")
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.file.flush().context("write the samples")
    }
}

fn encode(sample: &Sample) -> [u8; SIZE] {
    let mut record = [0; SIZE];
    record[..8].copy_from_slice(&sample.start_us.to_le_bytes());
    record[8..12].copy_from_slice(&sample.latency_us.to_le_bytes());
    record[12] = sample.outcome as u8;
    record[13..].copy_from_slice(&sample.generation.to_le_bytes());
    record
}

fn decode(record: &[u8; SIZE]) -> Option<Sample> {
    let (start_us, rest) = record.split_first_chunk()?;
    let (latency_us, rest) = rest.split_first_chunk()?;
    let (&outcome, rest) = rest.split_first()?;
    Some(Sample {
        start_us: u64::from_le_bytes(*start_us),
        latency_us: u32::from_le_bytes(*latency_us),
        outcome: Outcome::from_number(outcome)?,
        generation: u32::from_le_bytes(*rest.first_chunk()?),
    })
}

const SIZE: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_file() {
        for outcome in Outcome::ALL {
            let sample = Sample {
                start_us: 1 << 40,
                latency_us: 70_000,
                outcome,
                generation: 9,
            };
            assert_eq!(decode(&encode(&sample)), Some(sample));
        }
    }
}
