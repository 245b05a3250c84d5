//! What a download tells while it runs.

use anyhow::Result;

/// Is told how a download gets on, and may stop it.
pub trait Watch {
    /// Asked often; an error ends the download, and what has arrived is kept.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// So many files of so many bytes together are to come.
    fn begin(&self, _files: usize, _bytes: u64) {}

    /// The file `name` of `bytes` begins; it is number `number`, from 1.
    fn file(&self, _name: &str, _number: usize, _bytes: u64) {}

    /// So many bytes are there: of the file that has begun, and of all files together.
    fn at(&self, _of_file: u64, _of_all: u64) {}

    /// Nothing more is to come.
    fn end(&self) {}

    /// Something the user should know.
    fn warn(&self, _text: &str) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watch for Silent {}
