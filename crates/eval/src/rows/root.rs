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

    /// The files of the first of `splits` that is there, and the split's name. A repository of the hub
    /// keeps its only configuration in `data`, or beside its card.
    ///
    /// # Errors
    /// A [`Fault`] that names what was looked for.
    pub fn find(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, Vec<PathBuf>)> {
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
        let set = root.join(data_set);
        let mut directories = vec![set.join(config)];
        if config == "default" {
            directories.extend([set.join("data"), set]);
        }
        for split in splits {
            for directory in &directories {
                let files = files_of(directory, split);
                if !files.is_empty() {
                    return Ok((split.clone(), files));
                }
            }
        }
        Err(Fault::new(format!("the rows of {data_set} are not in the data root"))
            .file(root)
            .expected(wanted())
            .got(if root.is_dir() { "no such file" } else { "no such directory" })
            .hint(format!(
                "`hf download --repo-type dataset {data_set} --local-dir {}` brings them",
                root.join(data_set).display()
            ))
            .into())
    }
}

/// The file of a split in a directory, or the pieces of it, in order.
fn files_of(directory: &Path, split: &str) -> Vec<PathBuf> {
    if let Some(path) =
        ENDINGS.iter().map(|ending| directory.join(format!("{split}.{ending}"))).find(|path| path.is_file())
    {
        return vec![path];
    }
    // SPLIT-00000-of-00002.parquet
    let piece = |name: &str| -> Option<(usize, usize)> {
        let numbers = name.strip_prefix(split)?.strip_prefix('-')?.strip_suffix(".parquet")?;
        // Some have a hash behind the numbers.
        let mut parts = numbers.splitn(2, "-of-");
        let number = parts.next()?.parse().ok()?;
        let count = parts.next()?.split('-').next()?.parse().ok()?;
        Some((number, count))
    };
    let mut pieces: Vec<(usize, usize, PathBuf)> = std::fs::read_dir(directory)
        .map(|entries| {
            let named =
                entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
            named.filter_map(|(name, path)| piece(&name).map(|(number, count)| (number, count, path))).collect()
        })
        .unwrap_or_default();
    pieces.sort();
    let count = pieces.first().map_or(0, |(_, count, _)| *count);
    // A split with a piece missing is not that split.
    let whole =
        pieces.len() == count && pieces.iter().enumerate().all(|(at, (number, of, _))| at == *number && *of == count);
    if whole { pieces.into_iter().map(|(_, _, path)| path).collect() } else { vec![] }
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
        let (split, files) = root.find("a/b", "main", &splits).unwrap();
        assert_eq!((split.as_str(), files), ("validation", vec![directory.join("validation.csv")]));
        // Pieces, of which none may be missing.
        let data = place.path().join("a/b/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("test-00001-of-00002.parquet"), "").unwrap();
        assert!(root.find("a/b", "default", &splits[..1]).is_err());
        std::fs::write(data.join("test-00000-of-00002-0123abcd.parquet"), "").unwrap();
        let (_, files) = root.find("a/b", "default", &splits).unwrap();
        assert_eq!(files[1], data.join("test-00001-of-00002.parquet"));
        assert_eq!(files.len(), 2);
        let fault = |result: Result<(String, Vec<PathBuf>)>| result.unwrap_err().downcast::<Fault>().unwrap();
        assert!(fault(root.find("a/b", "other", &splits)).expected.unwrap().contains("a/b/other/test.parquet"));
        for (set, config) in [("../a", "main"), ("a/b", ".."), ("/etc", "main"), ("a\\b", "x")] {
            assert!(fault(root.find(set, config, &splits)).message.contains("no name"), "{set}");
        }
        assert!(fault(DataRoot::default().find("a/b", "main", &splits)).hint.unwrap().contains("--data-root"));
    }
}
