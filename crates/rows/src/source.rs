//! Where rows are read from: a file, a pipe or standard input, opened once, behind its byte order mark.

use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lopper_record::{Fault, Result};

/// How much is read to see what a file holds.
const HEAD: u64 = 4096;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// What the name of a file stands for where it may stand for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

/// The fault of a file whose rows cannot be read.
pub(crate) fn unreadable(path: &Path, got: impl ToString) -> Fault {
    Fault::new("the rows cannot be read").file(path).got(got.to_string()).hint("is it the right file?")
}

/// A number of bytes that a reader raises and others look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// Counts the bytes that are read.
pub(crate) struct Counted {
    inner: Box<dyn Read>,
    count: Count,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.add(read);
        Ok(read)
    }
}

/// An opened source of rows.
pub(crate) struct Source {
    pub path: PathBuf,
    /// The size of a file; a pipe has none.
    pub size: Option<u64>,
    /// Bytes read of it.
    pub count: Count,
    head: Vec<u8>,
    rest: Counted,
}

/// The text of a source.
pub(crate) type Text = BufReader<Chain<Cursor<Vec<u8>>, Counted>>;

impl Source {
    /// Opens a file, or standard input.
    ///
    /// # Errors
    /// A [`Fault`] for a file that cannot be opened, and for text that is compressed or not UTF-8.
    pub fn open(path: &Path, may_be_standard_input: bool) -> Result<Self> {
        let fault = |error: std::io::Error| unreadable(path, error).hint("check the path");
        let (inner, size): (Box<dyn Read>, _) = match may_be_standard_input && path == Path::new(STANDARD_INPUT) {
            true => (Box::new(std::io::stdin()), None),
            false => {
                let file = File::open(path).map_err(fault)?;
                let about = file.metadata().map_err(fault)?;
                (Box::new(file), about.is_file().then_some(about.len()))
            }
        };
        let count = Count::default();
        let mut rest = Counted { inner, count: count.clone() };
        let mut head = Vec::new();
        (&mut rest).take(HEAD).read_to_end(&mut head).map_err(fault)?;
        let wrong = |got: &str, hint: &str| Err(unreadable(path, got).expected("text in UTF-8").hint(hint).into());
        match &head[..] {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => wrong("text in UTF-16", "`iconv -f UTF-16 -t UTF-8` converts it"),
            [0x1f, 0x8b, ..] => wrong("a file compressed with gzip", "unpack it with `gzip -d`"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => wrong("a file compressed with zstd", "unpack it with `zstd -d`"),
            _ => Ok(Self { path: path.to_path_buf(), size, count, head, rest }),
        }
    }

    /// Whether it is a Parquet file.
    pub fn is_parquet(&self) -> bool {
        self.head.starts_with(b"PAR1")
    }

    /// Whether it begins with a JSON array.
    pub fn is_array(&self) -> bool {
        let head = self.head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.head);
        head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
    }

    /// Its text, without the byte order mark.
    pub fn text(self) -> Text {
        let mut head = Cursor::new(self.head);
        if head.get_ref().starts_with(BYTE_ORDER_MARK) {
            head.set_position(BYTE_ORDER_MARK.len() as u64);
        }
        BufReader::with_capacity(1 << 16, head.chain(self.rest))
    }
}

/// Reads one line, its end included, and returns how many bytes it has; 0 at the end of the text. What is beyond
/// `longest` bytes is skipped without being held in memory.
pub(crate) fn read_line(text: &mut dyn BufRead, line: &mut Vec<u8>, longest: u64) -> std::io::Result<u64> {
    line.clear();
    let mut read = text.take(longest).read_until(b'\n', line)? as u64;
    if read < longest || line.ends_with(b"\n") {
        return Ok(read);
    }
    loop {
        let part = text.fill_buf()?;
        let end = part.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(part.len(), |at| at + 1);
        let done = end.is_some() || part.is_empty();
        text.consume(length);
        read += length as u64;
        if done {
            return Ok(read);
        }
    }
}
