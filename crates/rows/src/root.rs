//! The data root: finding the files of a split, there or with a fetcher's help.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lopper_record::{Error, Fault, Result};

use super::{ENDINGS, RowFetcher, SplitFiles};

/// The environment variable that names the data root where no argument does.
pub const DATA_ROOT_VARIABLE: &str = "LOPPER_DATA_ROOT";

/// Where rows come from: a directory, and whoever brings what it lacks.
#[derive(Clone, Default)]
pub struct DataRoot {
    directory: Option<PathBuf>,
    fetcher: Option<Arc<dyn RowFetcher>>,
}

impl fmt::Debug for DataRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataRoot")
            .field("directory", &self.directory)
            .field("fetches", &self.fetcher.is_some())
            .finish()
    }
}

impl DataRoot {
    /// The data root in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), fetcher: None }
    }

    /// The one that the environment names, if it names one.
    pub fn from_env() -> Self {
        let directory = std::env::var_os(DATA_ROOT_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        Self { directory, fetcher: None }
    }

    /// The same, with somebody who brings what is not there.
    pub fn with_fetcher(self, fetcher: Arc<dyn RowFetcher>) -> Self {
        Self { fetcher: Some(fetcher), ..self }
    }

    /// The directory, where there is one.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The files of the first of `splits` that is in the directory, and the split's name; where none is, the
    /// fetcher tries. A repository of the hub keeps its only configuration in `data`, or next to its card.
    ///
    /// # Errors
    /// A [`Fault`] that names what was looked for; also the fetcher's.
    pub fn find(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, SplitFiles)> {
        let plain = |name: &str| name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\\');
        if ![data_set, config].into_iter().chain(splits.iter().map(String::as_str)).all(plain) {
            return Err(Fault::new("a data set, configuration or split has a name that is no name")
                .expected("names such as `openai/gsm8k`, `main`, `test`")
                .got(format!("`{data_set}`, `{config}`, `{}`", splits.join("`, `")))
                .hint("the task's file names them in `[rows]`")
                .into());
        }
        if let Some(found) = self.directory.as_deref().and_then(|root| in_directory(root, data_set, config, splits)) {
            return Ok(found);
        }
        let names: Vec<String> = splits.iter().map(|split| format!("{data_set}/{config}/{split}.parquet")).collect();
        let wanted = names.join(" or ");
        match (&self.fetcher, &self.directory) {
            (Some(fetcher), root) => fetcher.fetch(data_set, config, splits).map_err(|error| {
                let or = match root {
                    Some(root) => format!("put {wanted} (or .jsonl, .csv) into the data root, {}", root.display()),
                    None => format!("name a directory that holds {wanted} (or .jsonl, .csv) with --data-root DIR"),
                };
                beside(error, &or)
            }),
            (None, Some(root)) => Err(Fault::new(format!("the rows of {data_set} are not in the data root"))
                .file(root)
                .expected(format!("{wanted}, or the same as .jsonl or .csv"))
                .got(if root.is_dir() { "no such file" } else { "no such directory" })
                .hint(format!(
                    "`hf download --repo-type dataset --revision refs/convert/parquet {data_set} --local-dir {}` brings them",
                    root.join(data_set).display()
                ))
                .into()),
            (None, None) => Err(Fault::new(format!("the rows of {data_set} are not on this machine"))
                .expected(format!("a data root that holds {wanted}, or the same as .jsonl or .csv"))
                .got("no data root")
                .hint(format!("name it with --data-root DIR, or in {DATA_ROOT_VARIABLE}"))
                .into()),
        }
    }
}

/// The same fault with another way out in its hint.
fn beside(error: Error, or: &str) -> Error {
    match error.into_fault() {
        Ok(fault) => {
            let hint = fault.hint.as_ref().map_or_else(|| or.to_owned(), |hint| format!("{hint}; or {or}"));
            fault.hint(hint).into()
        }
        Err(error) => error,
    }
}

fn in_directory(root: &Path, data_set: &str, config: &str, splits: &[String]) -> Option<(String, SplitFiles)> {
    let set = root.join(data_set);
    let mut directories = vec![set.join(config)];
    if config == "default" {
        directories.extend([set.join("data"), set]);
    }
    splits.iter().find_map(|split| {
        let found = directories.iter().map(|directory| files_of(directory, split)).find(|files| !files.is_empty());
        Some((split.clone(), SplitFiles::local(found?)))
    })
}

/// The file of a split in a directory, or the pieces of it, in order.
fn files_of(directory: &Path, split: &str) -> Vec<PathBuf> {
    if let Some(path) =
        ENDINGS.iter().map(|ending| directory.join(format!("{split}.{ending}"))).find(|path| path.is_file())
    {
        return vec![path];
    }
    // SPLIT-00000-of-00002.parquet
    let named = |name: &str| -> Option<Piece> {
        let numbers = name.strip_prefix(split)?.strip_prefix('-')?.strip_suffix(".parquet")?;
        // Some have a hash behind the numbers.
        let mut parts = numbers.splitn(2, "-of-");
        let number = parts.next()?.parse().ok()?;
        let count = parts.next()?.split('-').next()?.parse().ok()?;
        Some((number, Some(count)))
    };
    // SPLIT/0000.parquet, as the hub's conversion has them.
    let numbered = |name: &str| Some((name.strip_suffix(".parquet")?.parse().ok()?, None));
    let files = pieces(directory, &named);
    if files.is_empty() { pieces(&directory.join(split), &numbered) } else { files }
}

/// Which piece of a split a file is, and of how many, where its name tells.
type Piece = (usize, Option<usize>);

/// The files of a directory whose names are those of pieces of one split, in order; none if one is missing.
fn pieces(directory: &Path, piece: &dyn Fn(&str) -> Option<Piece>) -> Vec<PathBuf> {
    let mut pieces: Vec<(usize, Option<usize>, PathBuf)> = std::fs::read_dir(directory)
        .map(|entries| {
            let named =
                entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
            named.filter_map(|(name, path)| piece(&name).map(|(number, count)| (number, count, path))).collect()
        })
        .unwrap_or_default();
    pieces.sort();
    // A split with a piece missing is not that split.
    let whole = pieces
        .iter()
        .enumerate()
        .all(|(at, (number, count, _))| at == *number && count.is_none_or(|count| count == pieces.len()));
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
        assert_eq!((split.as_str(), &files[..]), ("validation", &[directory.join("validation.csv")][..]));
        // Pieces, of which none may be missing.
        let data = place.path().join("a/b/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("test-00001-of-00002.parquet"), "").unwrap();
        assert!(root.find("a/b", "default", &splits[..1]).is_err());
        std::fs::write(data.join("test-00000-of-00002-0123abcd.parquet"), "").unwrap();
        let (_, files) = root.find("a/b", "default", &splits).unwrap();
        assert_eq!(files[1], data.join("test-00001-of-00002.parquet"));
        assert_eq!(files.len(), 2);
        // The hub's conversion, as `hf download --revision refs/convert/parquet` brings it.
        let converted = place.path().join("a/b/other/train");
        std::fs::create_dir_all(&converted).unwrap();
        let train = ["train".to_owned()];
        std::fs::write(converted.join("0001.parquet"), "").unwrap();
        assert!(root.find("a/b", "other", &train).is_err());
        std::fs::write(converted.join("0000.parquet"), "").unwrap();
        let (_, files) = root.find("a/b", "other", &train).unwrap();
        assert_eq!(&files[..], [converted.join("0000.parquet"), converted.join("0001.parquet")]);
        let fault = |result: Result<(String, SplitFiles)>| result.unwrap_err().into_fault().unwrap();
        assert!(fault(root.find("a/b", "other", &splits)).expected.unwrap().contains("a/b/other/test.parquet"));
        for (set, config) in [("../a", "main"), ("a/b", ".."), ("/etc", "main"), ("a\\b", "x")] {
            assert!(fault(root.find(set, config, &splits)).message.contains("no name"), "{set}");
        }
        assert!(fault(DataRoot::default().find("a/b", "main", &splits)).hint.unwrap().contains("--data-root"));
    }
    #[test]
    fn a_fetcher_brings_what_the_directory_lacks() {
        struct Elsewhere;
        impl RowFetcher for Elsewhere {
            fn fetch(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, SplitFiles)> {
                let file = PathBuf::from(format!("{data_set}/{config}/{}", splits[0]));
                match config {
                    "main" => Ok((splits[0].clone(), SplitFiles::fetched(vec![file], "c0ffee"))),
                    _ => Err(Fault::new("nothing there").hint("try later").into()),
                }
            }
        }
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("a/b/main")).unwrap();
        std::fs::write(place.path().join("a/b/main/validation.csv"), "x\n1\n").unwrap();
        let root = DataRoot::new(place.path()).with_fetcher(Arc::new(Elsewhere));
        let splits = ["test".to_owned(), "validation".to_owned()];
        // Any of the splits in the directory goes before all of them elsewhere.
        assert_eq!(root.find("a/b", "main", &splits).unwrap().1.revision, None);
        let (split, files) = root.find("a/b", "main", &splits[..1]).unwrap();
        assert_eq!((split.as_str(), files.revision.as_deref(), files.len()), ("test", Some("c0ffee"), 1));
        let hint =
            |root: &DataRoot| root.find("a/b", "other", &splits).unwrap_err().into_fault().unwrap().hint.unwrap();
        assert!(hint(&root).starts_with("try later; or put a/b/other/test.parquet or a/b/other/validation.parquet"));
        assert!(hint(&DataRoot::default().with_fetcher(Arc::new(Elsewhere))).ends_with("with --data-root DIR"));
        // Names that are none are refused before anything is fetched.
        assert!(root.find("a/b", "..", &splits).unwrap_err().to_string().contains("no name"));
    }
}
