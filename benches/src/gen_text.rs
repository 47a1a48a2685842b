//! Writes a folder of Zipf text: `gen-text FOLDER --mb 300 --files 30 --seed 42`.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tidemill::source::generator::text::{ZipfOptions, ZipfText};

/// Writes a folder of Zipf text: part-00000.txt and so on, of equal sizes, whole lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// The folder; it must not be there yet, and is there once it is whole
    folder: PathBuf,
    /// Megabytes in all, of a million bytes
    #[arg(long, default_value_t = 300)]
    mb: u64,
    /// Files
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=99_999))]
    files: u64,
    /// Another seed, another text
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 1 << 20;

fn main() -> anyhow::Result<()> {
    let Options { folder, mb, files, seed } = Options::parse();
    anyhow::ensure!(!folder.exists(), "`{}` is there already", folder.display());
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("cannot remove what an earlier run left unfinished")?;
    }
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot make `{}`", unfinished.display()))?;

    let mut text = ZipfText::new(ZipfOptions { seed, ..ZipfOptions::default() })?;
    let (mut n_bytes, mut n_lines, mut n_words) = (0, 0_u64, 0);
    let bytes_per_file = mb * 1_000_000 / files;
    for index in 0..files {
        let path = unfinished.join(format!("part-{index:05}.txt"));
        let mut file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        let mut size = 0;
        let mut chunk = Vec::with_capacity(2 * CHUNK_BYTES);
        while size < bytes_per_file {
            chunk.clear();
            while chunk.len() < CHUNK_BYTES && size + (chunk.len() as u64) < bytes_per_file {
                let start = chunk.len();
                text.write_line(&mut chunk);
                n_words += 1 + chunk[start..].iter().filter(|byte| **byte == b' ').count();
                chunk.push(b'\n');
                n_lines += 1;
            }
            file.write_all(&chunk).with_context(|| format!("cannot write `{}`", path.display()))?;
            size += chunk.len() as u64;
        }
        n_bytes += size;
    }
    fs::rename(&unfinished, &folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    println!("{{\"bytes\":{n_bytes},\"lines\":{n_lines},\"words\":{n_words}}}");
    Ok(())
}
