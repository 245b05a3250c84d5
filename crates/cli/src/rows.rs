//! Rows of prompts and examples as the command line names them: a file, or a data set of the hub.

use std::path::Path;

use lopper_heal::RowSource;
use lopper_heal::examples::layouts::ColumnNames;
use lopper_hub::HubId;
use lopper_record::{Fault, Result};
use lopper_tasks::DataRoot;
use serde::Serialize;

use crate::args::RowArgs;

/// Endings of files; what ends so is no data set.
const ENDINGS: [&str; 7] = ["csv", "json", "jsonl", "ndjson", "parquet", "tsv", "txt"];
/// The configuration of a data set that has only one, and the split that models are trained on.
const CONFIG: &str = "default";
const SPLIT: &str = "train";

/// Rows, and where they come from if it is a data set.
pub struct NamedRows {
    pub source: RowSource,
    pub data_set: Option<DataSetRows>,
}

/// Which rows of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataSetRows {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    pub split: String,
    /// The commit on the hub; none of rows in the data root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// The rows that `argument` names: a file that is there, or a data set, in `root` or on the hub. `answer` is the column
/// of the answers, if it is named.
///
/// # Errors
/// A [`Fault`] for a data set or split that is not there, and for a split of a file.
pub fn named(root: &DataRoot, argument: &str, args: &RowArgs, answer: Option<&str>) -> Result<NamedRows> {
    let path = Path::new(argument);
    let columns = ColumnNames { prompt: args.column.clone(), answer: answer.map(str::to_owned) };
    let Some(id) = data_set(path, argument)? else {
        if let Some((name, _)) = args.of_data_sets().iter().find(|(_, given)| *given) {
            return Err(Fault::new(format!("{name} belongs to data sets of the hub"))
                .expected("a data set, such as `openai/gsm8k`")
                .got(format!("`{argument}`, a file"))
                .hint(format!("leave {name} out"))
                .into());
        }
        return Ok(NamedRows { source: RowSource { columns, ..RowSource::file(path) }, data_set: None });
    };
    let split = args.split.as_deref().unwrap_or(SPLIT);
    let (split, found) = root.find(&id, args.config.as_deref().unwrap_or(CONFIG), &[split.to_owned()])?;
    let revision = found.revision.clone();
    let data_set = Some(DataSetRows { config: args.config.clone(), split, revision });
    Ok(NamedRows { source: RowSource { name: id.into(), files: found.to_vec(), columns }, data_set })
}

/// Whether `argument` is a file of rows, by its ending.
pub fn is_file_of_rows(argument: &str) -> bool {
    let ending = Path::new(argument).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.contains(&ending.to_lowercase().as_str())
}

/// The data set that `argument` names, if it is none of a file.
fn data_set(path: &Path, argument: &str) -> Result<Option<String>> {
    if path.symlink_metadata().is_ok() || is_file_of_rows(argument) {
        return Ok(None);
    }
    match HubId::parse(argument)? {
        Some(HubId { revision: Some(revision), .. }) => Err(Fault::new("a data set is read at its newest state")
            .expected("`organisation/name`")
            .got(format!("`{argument}`"))
            .hint(format!("leave `@{revision}` out; a copy in the data root stays as it is"))
            .into()),
        id => Ok(id.map(|id| id.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_data_sets_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("own")).unwrap();
        std::fs::write(place.path().join("own/rows"), "").unwrap();
        let there = place.path().join("own/rows");
        let of = |argument: &str| data_set(Path::new(argument), argument);
        assert_eq!(of(there.to_str().unwrap()).unwrap(), None);
        for file in ["data/prompts.jsonl", "own/rows.CSV", "./own/rows", "rows"] {
            assert_eq!(of(file).unwrap(), None, "{file}");
        }
        assert_eq!(of("openai/gsm8k").unwrap().as_deref(), Some("openai/gsm8k"));
        assert_eq!(of("org/name-1.5").unwrap().as_deref(), Some("org/name-1.5"));
        assert!(of("openai/gsm8k@main").unwrap_err().fault().unwrap().hint.as_deref().unwrap().contains("@main"));
    }

    #[test]
    fn a_split_of_the_data_root_is_found_and_one_of_a_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("own/rows/data")).unwrap();
        std::fs::write(place.path().join("own/rows/data/dev.jsonl"), "{}").unwrap();
        let root = DataRoot::new(place.path());
        let args = |split: &str| RowArgs { split: Some(split.to_owned()), ..RowArgs::default() };
        let found = named(&root, "own/rows", &args("dev"), None).unwrap();
        assert_eq!(found.source.files, [place.path().join("own/rows/data/dev.jsonl")]);
        let data_set = DataSetRows { config: None, split: "dev".to_owned(), revision: None };
        assert_eq!((found.source.name.as_path(), found.data_set), (Path::new("own/rows"), Some(data_set)));
        assert!(named(&root, "own/rows", &RowArgs::default(), None).is_err(), "it has no split `train`");
        let fault = named(&root, "own/rows.jsonl", &args("dev"), None).err().unwrap().into_fault().unwrap();
        assert!(fault.message.starts_with("--split belongs to data sets"), "{fault:?}");
    }
}
