//! What names a repository of the hub: `organisation/name`, or `organisation/name@REVISION`.

use anyhow::Result;
use lopper_record::Fault;

use crate::transfer::escaped;

/// The branch that is meant where no revision is named.
pub(crate) const DEFAULT_REVISION: &str = "main";
/// The branch on which the hub keeps a data set as Parquet files.
pub(crate) const PARQUET_REVISION: &str = "refs/convert/parquet";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    DataSet,
}

/// A repository of the hub, and which state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    pub(crate) kind: Kind,
    /// `organisation/name`.
    pub id: String,
    /// A branch, a tag, a commit, or `refs/pr/N`; the main branch where none is given.
    pub revision: Option<String>,
}

impl HubId {
    /// The model that `text` names; `None` where it does not look like one of the hub. Faults where
    /// it does and its revision is malformed.
    ///
    /// Ids without an organisation (`gpt2`) are not taken: they cannot be told from mistyped paths,
    /// and the hub has each of them under an organisation as well.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        if !is_id(id) {
            return Ok(None);
        }
        let model = Self { kind: Kind::Model, id: id.to_owned(), revision: None };
        match revision {
            Some(revision) => model.at(revision).map(Some),
            None => Ok(Some(model)),
        }
    }

    /// The data set `id` as Parquet files. Faults where that is no id of the hub.
    pub(crate) fn data_set(id: &str) -> Result<Self> {
        if is_id(id) {
            return Ok(Self { kind: Kind::DataSet, id: id.to_owned(), revision: Some(PARQUET_REVISION.to_owned()) });
        }
        Err(Fault::new("not a data set of the hub")
            .expected("`organisation/name`, such as `openai/gsm8k`")
            .got(format!("`{id}`"))
            .hint("the task's file names it in `[rows]`")
            .into())
    }

    /// The same model at `revision`; a fault where it already names another one.
    pub fn at(mut self, revision: &str) -> Result<Self> {
        if !is_revision(revision) {
            return Err(Fault::new("not a revision of a model")
                .expected("a branch, a tag, a commit, or refs/pr/N")
                .got(format!("`{revision}`"))
                .hint("leave it out to take the main branch")
                .into());
        }
        match &self.revision {
            Some(other) if other != revision => Err(Fault::new("two revisions were given")
                .expected(format!("{}@{other}, or --revision {revision}", self.id))
                .got("both")
                .hint("leave one of them out")
                .into()),
            _ => {
                self.revision = Some(revision.to_owned());
                Ok(self)
            }
        }
    }

    /// The revision to ask the hub for.
    pub(crate) fn wanted(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The repository's directory in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("{}--{}", self.plural(), self.id.replace('/', "--"))
    }

    /// Where the hub shows it and keeps its files, below the hub's address.
    pub(crate) fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            Kind::DataSet => format!("datasets/{}", self.id),
        }
    }

    /// Where the hub lists its files.
    pub(crate) fn listing(&self) -> String {
        let revision = escaped(self.wanted()).replace('/', "%2F");
        format!("api/{}/{}/revision/{revision}?blobs=true", self.plural(), self.id)
    }

    /// What it is, for messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Model => "model",
            Kind::DataSet => "data set",
        }
    }

    fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::DataSet => "datasets",
        }
    }
}

fn is_id(id: &str) -> bool {
    id.split_once('/').is_some_and(|(organisation, name)| is_part(organisation) && is_part(name)) && id.len() <= 96
}

/// The hub's rule for organisations and names (huggingface_hub, `validate_repo_id`). It also keeps
/// `..` and hidden names out of paths.
fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    let ends = |c: char| c == '-' || c == '.';
    !part.is_empty()
        && part.chars().all(plain)
        && !part.starts_with(ends)
        && !part.ends_with(ends)
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether `text` can be a git reference and a path below `refs/`: git's own rules (`git
/// check-ref-format`), and nothing hidden.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"~^:?*[]\\<>|\"@{}".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(['.', '/']);
    text.len() <= 200 && text.chars().all(plain) && text.split('/').all(part) && !text.contains("..")
}

/// Whether `text` is a full commit hash, which names one state for ever.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<HubId> {
        HubId::parse(text).unwrap()
    }

    #[test]
    fn ids_with_and_without_a_revision() {
        let model = parse("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!((model.id.as_str(), model.wanted()), ("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(model.folder(), "models--Qwen--Qwen3-0.6B");
        assert_eq!(model.listing(), "api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true");
        assert_eq!(parse("a/b@refs/pr/3").unwrap().wanted(), "refs/pr/3");
        assert_eq!(parse("a/b@v1.0").unwrap().at("v1.0").unwrap().wanted(), "v1.0");
        assert!(parse("a/b@v1.0").unwrap().at("v2").is_err());
    }

    #[test]
    fn data_sets_have_names_and_places_of_their_own() {
        let rows = HubId::data_set("openai/gsm8k").unwrap();
        assert_eq!(rows.folder(), "datasets--openai--gsm8k");
        assert_eq!(rows.listing(), "api/datasets/openai/gsm8k/revision/refs%2Fconvert%2Fparquet?blobs=true");
        assert_eq!(rows.page(), "datasets/openai/gsm8k");
        for id in ["gsm8k", "../gsm8k", "openai/gsm8k@main", "a/b/c", "a/..", ""] {
            assert!(HubId::data_set(id).unwrap_err().downcast_ref::<Fault>().is_some(), "{id}");
        }
    }

    #[test]
    fn paths_are_not_ids() {
        let paths = ["gpt2", "./a/b", "../b", "a/..", "/a", "a/", "a/b/c", "a/b/", "~/b", "a\\b", "a/.b", "a--b/c", ""];
        for path in paths {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn revisions_that_could_leave_the_cache_are_faults() {
        for revision in ["", "..", "../x", "a/../b", "/a", "a/", "a//b", ".a", "a\\b", "a b", "a\nb", "a/.b", "-x", "é"]
        {
            let error = HubId::parse(&format!("a/b@{revision}")).unwrap_err();
            assert!(error.downcast_ref::<Fault>().is_some(), "{revision}");
        }
    }

    proptest! {
        /// Whatever is taken for an id is two plain names, and its revision stays below a directory.
        #[test]
        fn what_is_taken_is_plain(text in "[a-z./@~\\\\ -]{0,12}") {
            if let Ok(Some(model)) = HubId::parse(&text) {
                prop_assert_eq!(model.folder().matches(['/', '\\']).count(), 0);
                for part in model.id.split('/').chain(model.wanted().split('/')) {
                    prop_assert!(!part.is_empty() && !part.starts_with('.'));
                }
            }
        }
    }
}
