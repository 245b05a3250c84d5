//! The log as a TensorBoard event file, with the tags of transformers' Trainer: `train/loss`, `train/learning_rate`,
//! `eval/loss`.
//!
//! An event file is a sequence of records: the length as eight bytes, the masked CRC-32C of these, an `Event` message,
//! and the masked CRC-32C of it, all little-endian (`tensorflow/core/lib/io/record_writer.cc`; the message is
//! `tensorboard/compat/proto/event.proto`). The crates that write it (`tensorboard-rs`, `tboard`) bring protobuf along
//! for three fields. `fixtures/check_tensorboard.py` reads a file of ours with TensorBoard's own reader.
//!
//! A continued run has a file of its own, which begins with a session's start: TensorBoard then drops what the earlier
//! files have of this step and of later ones.

use super::{LogEntry, TrainingLog};
use lopper_record::{Context, Result};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What names of event files begin with.
const PREFIX: &str = "events.out.tfevents.";
/// What names of Lopper's event files end in.
const SUFFIX: &str = ".lopper";
/// The version of the format.
const VERSION: &[u8] = b"brain.Event:2";

/// A log as TensorBoard event files in a directory, which is made if needed.
#[derive(Debug)]
pub struct TensorBoardLog {
    directory: PathBuf,
    file: RefCell<Option<File>>,
}

impl TensorBoardLog {
    /// A log in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), file: RefCell::new(None) }
    }

    /// The event files in `directory`, sorted; none where it does not exist. With `own` only those of Lopper.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn files(directory: &Path, own: bool) -> Result<Vec<PathBuf>> {
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for entry in directory.read_dir().with_context(|| format!("reading {}", directory.display()))? {
            let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.contains("tfevents") && (!own || name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// A file that TensorBoard, which goes by names, reads after those that are there.
    fn create(&self) -> Result<File> {
        let directory = self.directory.as_path();
        std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let there = Self::files(directory, true)?;
        let last = there.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok()
        });
        let seconds = last.max().unwrap_or(0).max(wall_time() as u64);
        let path = directory.join(format!("{PREFIX}{seconds:010}.{:04}{SUFFIX}", there.len()));
        File::create_new(&path).with_context(|| format!("creating {}", path.display()))
    }

    fn write(&self, events: &[Vec<u8>]) -> Result<()> {
        let bytes: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
        let mut file = self.file.borrow_mut();
        let file = file.as_mut().context("a log that has begun")?;
        file.write_all(&bytes).with_context(|| format!("writing to {}", self.directory.display()))
    }
}

impl TrainingLog for TensorBoardLog {
    fn begin(&self, step: usize) -> Result<()> {
        *self.file.borrow_mut() = Some(self.create()?);
        let mut events = vec![event(wall_time(), 0, FILE_VERSION, VERSION)];
        if step > 0 {
            events.push(event(wall_time(), step, SESSION_LOG, &[STATUS << 3, SESSION_START]));
        }
        self.write(&events)
    }

    fn record(&self, entry: &LogEntry) -> Result<()> {
        let values = [
            ("train/loss", entry.loss),
            ("train/learning_rate", entry.learning_rate),
            ("eval/loss", entry.held_out_loss),
        ];
        let summary: Vec<u8> =
            values.into_iter().filter_map(|(tag, value)| Some(scalar(tag, value? as f32))).flatten().collect();
        if summary.is_empty() {
            return Ok(());
        }
        self.write(&[event(wall_time(), entry.step, SUMMARY, &summary)])
    }
}

/// Fields of `Event` that hold bytes.
const FILE_VERSION: u8 = 3;
const SUMMARY: u8 = 5;
const SESSION_LOG: u8 = 7;
/// The field of `SessionLog`, and its value at a start.
const STATUS: u8 = 1;
const SESSION_START: u8 = 1;

/// Wire types of protobuf.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// An `Event`: wall time, step, and one field of bytes.
fn event(wall_time: f64, step: usize, field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![1 << 3 | FIXED64];
    message.extend(wall_time.to_le_bytes());
    if step > 0 {
        message.push(2 << 3 | VARINT);
        varint(&mut message, step as u64);
    }
    with_bytes(&mut message, field, bytes);
    message
}

/// The field of a `Summary` that is one scalar.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let mut inner = Vec::new();
    with_bytes(&mut inner, 1, tag.as_bytes());
    inner.push(2 << 3 | FIXED32);
    inner.extend(value.to_le_bytes());
    let mut message = Vec::new();
    with_bytes(&mut message, 1, &inner);
    message
}

fn with_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | BYTES);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// A record of an event file.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked(crc32c(&length)).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked(crc32c(message)).to_le_bytes());
    bytes
}

/// TensorFlow's mask, so that the checksum of data that holds checksums is still a good one.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ 0x82f6_3b78 & (crc & 1).wrapping_neg();
        }
    }
    !crc
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests;
