//! The log as JSON Lines: an entry per line, flushed.

use super::{LogEntry, TrainingLog};
use lopper_record::{Context, Fault, Result, write_atomic};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A log as JSON Lines. Its file is made, or cut back to the step that a run continues from, when the run begins.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    file: RefCell<Option<File>>,
}

impl JsonLog {
    /// A log in the file `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), file: RefCell::new(None) }
    }

    /// The lines of steps before `step`. A last line without its end was being written when the run ended.
    fn before(&self, step: usize) -> Result<String> {
        if step == 0 || !self.path.exists() {
            return Ok(String::new());
        }
        let text = std::fs::read(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        let mut kept = String::new();
        for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            let entry: LogEntry = serde_json::from_slice(whole).map_err(|error| {
                Fault::new(format!("line {} is none of a training log: {error}", number + 1))
                    .file(&self.path)
                    .expected("the log of the run that is continued")
                    .hint("name another file, or start over with --force")
            })?;
            if entry.step < step {
                kept.push_str(&String::from_utf8_lossy(line));
            }
        }
        Ok(kept)
    }
}

impl TrainingLog for JsonLog {
    fn begin(&self, step: usize) -> Result<()> {
        write_atomic(&self.path, self.before(step)?.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&self.path);
        *self.file.borrow_mut() = Some(file.with_context(|| format!("opening {}", self.path.display()))?);
        Ok(())
    }

    fn record(&self, entry: &LogEntry) -> Result<()> {
        let line = serde_json::to_string(entry)? + "\n";
        let mut file = self.file.borrow_mut();
        let file = file.as_mut().context("a log that has begun")?;
        // One write per line: a reader never sees half of one, and a file needs no flush.
        file.write_all(line.as_bytes()).with_context(|| format!("writing {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: usize) -> LogEntry {
        LogEntry { step, loss: (step > 0).then_some(3.0 / step as f64), tokens: 7 * step as u64, ..LogEntry::default() }
    }

    #[test]
    fn a_continued_log_has_every_step_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let lines = || -> Vec<LogEntry> {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let log = JsonLog::new(&path);
        log.begin(0).unwrap();
        for step in 0..6 {
            log.record(&entry(step)).unwrap();
            assert_eq!(lines().len(), step + 1, "it can be read while the run goes on");
        }
        // The state was saved after step 3, and the process ended in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":6,\"lo").unwrap();
        let log = JsonLog::new(&path);
        log.begin(3).unwrap();
        (3..8).for_each(|step| log.record(&entry(step)).unwrap());
        assert_eq!(lines(), (0..8).map(entry).collect::<Vec<_>>());

        std::fs::write(&path, "something else\n").unwrap();
        let fault = JsonLog::new(&path).begin(3).unwrap_err().into_fault().unwrap();
        assert!(fault.message.contains("line 1 is none"), "{fault:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n", "it stays as it is");
    }
}
