//! The data root: finding the file of a split.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lopper_record::Fault;

use super::ENDINGS;

/// The environment variable that names the data root where no argument does.
pub const DATA_ROOT_VARIABLE: &str = "LOPPER_DATA_ROOT";

/// Where rows come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataRoot {
    directory: Option<PathBuf>,
}

impl DataRoot {
    /// The data root in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()) }
    }

    /// The one that the environment names, if it names one.
    pub fn from_env() -> Self {
        Self { directory: std::env::var_os(DATA_ROOT_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from) }
    }

    /// The directory, where there is one.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The file of the first of `splits` that is there, and the split's name.
    ///
    /// # Errors
    /// A [`Fault`] that names what was looked for.
    pub fn find(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, PathBuf)> {
        let wanted = || {
            let names: Vec<String> =
                splits.iter().map(|split| format!("{data_set}/{config}/{split}.parquet")).collect();
            format!("{}, or the same as .jsonl or .csv", names.join(" or "))
        };
        let Some(root) = &self.directory else {
            return Err(Fault::new(format!("the rows of {data_set} are not on this machine"))
                .expected(format!("a data root that holds {}", wanted()))
                .got("no data root")
                .hint(format!("name it with --data-root DIR, or in {DATA_ROOT_VARIABLE}"))
                .into());
        };
        let plain = |name: &str| name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\\');
        if ![data_set, config].into_iter().chain(splits.iter().map(String::as_str)).all(plain) {
            return Err(Fault::new("a data set, configuration or split has a name that is no name")
                .expected("names such as `openai/gsm8k`, `main`, `test`")
                .got(format!("`{data_set}`, `{config}`, `{}`", splits.join("`, `")))
                .hint("the task's file names them in `[rows]`")
                .into());
        }
        let directory = root.join(data_set).join(config);
        for split in splits {
            for ending in ENDINGS {
                let path = directory.join(format!("{split}.{ending}"));
                if path.is_file() {
                    return Ok((split.clone(), path));
                }
            }
        }
        Err(Fault::new(format!("the rows of {data_set} are not in the data root"))
            .file(root)
            .expected(wanted())
            .got(if root.is_dir() { "no such file" } else { "no such directory" })
            .hint("download the data set's Parquet files from the hub into this layout")
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_split_that_is_there_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b/main");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("validation.csv"), "x\n1\n").unwrap();
        let root = DataRoot::new(place.path());
        let splits = ["test".to_owned(), "validation".to_owned()];
        let (split, path) = root.find("a/b", "main", &splits).unwrap();
        assert_eq!((split.as_str(), path), ("validation", directory.join("validation.csv")));
        let fault = |result: Result<(String, PathBuf)>| result.unwrap_err().downcast::<Fault>().unwrap();
        assert!(fault(root.find("a/b", "other", &splits)).expected.unwrap().contains("a/b/other/test.parquet"));
        for (set, config) in [("../a", "main"), ("a/b", ".."), ("/etc", "main"), ("a\\b", "x")] {
            assert!(fault(root.find(set, config, &splits)).message.contains("no name"), "{set}");
        }
        assert!(fault(DataRoot::default().find("a/b", "main", &splits)).hint.unwrap().contains("--data-root"));
    }
}
