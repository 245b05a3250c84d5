//! What an interrupted run has finished: one JSON line that tells which run it is, then one for
//! each finished row. A last line that was cut short is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lopper_record::{Context, Fault, Result, changed_keys};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Header {
    run: String,
    /// The run's settings, so that a change of them can be named; absent in older files.
    #[serde(default)]
    settings: Value,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    index: usize,
    row: T,
}

/// Finished rows by index, in memory and in their file.
pub struct Partial<T> {
    path: PathBuf,
    file: Option<File>,
    header: String,
    rows: BTreeMap<usize, T>,
    synced: Instant,
}

/// How long an added row may wait to be on the disk for good.
const SYNC_EVERY: Duration = Duration::from_secs(2);

impl<T: Serialize + DeserializeOwned> Partial<T> {
    /// Opens what the run `key`, of these settings, has finished so far; nothing is written yet.
    ///
    /// # Errors
    /// A [`Fault`] when the file belongs to another run, unless `force`.
    pub fn open(path: PathBuf, key: &str, settings: &Value, force: bool) -> Result<Self> {
        let header = serde_json::to_string(&Header { run: key.to_owned(), settings: settings.clone() })?;
        let mut partial = Self { path, file: None, header, rows: BTreeMap::new(), synced: Instant::now() };
        let text = match fs::read(&partial.path) {
            Ok(bytes) if !force => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(_) => return Ok(partial),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(partial),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", partial.path.display())),
        };
        let Some((first, rest)) = text.split_once('\n') else { return Ok(partial) };
        let found: Option<Header> = serde_json::from_str(first).ok();
        if found.as_ref().is_none_or(|found| found.run != key) {
            let before = found.map(|found| found.settings).filter(Value::is_object);
            return Err(Fault::new("an unfinished output of other settings is in the way")
                .file(&partial.path)
                .expected("the same model, prompts, sampling and seed as in the interrupted run")
                .got(before.map_or_else(|| "others".to_owned(), |before| changed_keys(&before, settings)))
                .hint("repeat that run's command to finish it, or add --force to start over")
                .into());
        }
        for line in rest.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Ok(Line { index, row }) = serde_json::from_str::<Line<T>>(line) else { break };
            partial.rows.insert(index, row);
        }
        Ok(partial)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn has(&self, index: usize) -> bool {
        self.rows.contains_key(&index)
    }

    pub fn rows(&self) -> &BTreeMap<usize, T> {
        &self.rows
    }

    /// Adds a finished row, in the file too. What was added in the last seconds before a power failure may be lost.
    pub fn add(&mut self, index: usize, row: T) -> Result<()> {
        let mut text = String::new();
        push_line(&mut text, index, &row)?;
        self.rows.insert(index, row);
        let path = self.path.clone();
        let written = if self.file.is_some() { self.append(&text) } else { self.begin() };
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    fn append(&mut self, text: &str) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(text.as_bytes())?;
        if self.synced.elapsed() > SYNC_EVERY {
            file.sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Writes the file anew with all rows, so that nothing broken stays in it.
    fn begin(&mut self) -> std::io::Result<()> {
        let mut text = format!("{}\n", self.header);
        for (index, row) in &self.rows {
            push_line(&mut text, *index, row)?;
        }
        lopper_record::write_atomic(&self.path, text.as_bytes()).map_err(std::io::Error::other)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        Ok(())
    }

    /// Removes the file, once its rows are elsewhere.
    pub fn remove(self) {
        // If it stays, it is found finished the next time, which costs nothing.
        let _ = fs::remove_file(&self.path);
    }
}

fn push_line<T: Serialize>(text: &mut String, index: usize, row: &T) -> serde_json::Result<()> {
    text.push_str(&serde_json::to_string(&Line { index, row })?);
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finished_rows_come_back_and_a_torn_line_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.partial");
        let open = |force| Partial::<String>::open(path.clone(), "a", &json!({"seed": 1}), force).unwrap();
        let mut partial = open(false);
        assert_eq!(partial.len(), 0);
        assert!(!path.exists());
        for (index, row) in [(4, "four"), (1, "one"), (0, "zero")] {
            partial.add(index, row.into()).unwrap();
        }

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut partial = open(false);
        assert!(partial.has(1) && partial.has(4) && !partial.has(0));
        partial.add(2, "two".into()).unwrap();
        let again = open(false);
        assert_eq!(again.rows().values().collect::<Vec<_>>(), ["one", "two", "four"]);
        assert_eq!(open(true).len(), 0);

        let error = Partial::<String>::open(path.clone(), "b", &json!({"seed": 2}), false).err().unwrap();
        assert_eq!(error.fault().unwrap().got.as_deref(), Some("`seed` was 1 and is 2"));
        assert!(error.fault().unwrap().hint.as_ref().unwrap().contains("--force"));
        again.remove();
        assert!(!path.exists());
    }
}
