//! Ids of repositories on the hub: `organisation/name`, or `organisation/name@REVISION`.

use lopper_record::{Fault, Result};

use crate::transfer::escaped;

/// The branch that is used where no revision is given.
pub(crate) const DEFAULT_REVISION: &str = "main";
/// The branch on which the hub keeps a data set as Parquet files.
pub(crate) const PARQUET_REVISION: &str = "refs/convert/parquet";

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    DataSet,
}

/// A repository of the hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    pub(crate) kind: Kind,
    /// `organisation/name`.
    pub id: String,
    /// A branch, a tag, a commit, or `refs/pr/N`; the main branch where none is given.
    pub revision: Option<String>,
}

impl HubId {
    /// Parses the id of a model; `None` if `text` does not look like one.
    ///
    /// Ids without an organisation (`gpt2`) are not accepted: they look like mistyped paths, and the hub has each of
    /// those models under an organisation as well.
    ///
    /// # Errors
    /// A [`Fault`] for an id with a malformed revision.
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

    /// The repository of the data set `id` at its branch of Parquet files.
    ///
    /// # Errors
    /// A [`Fault`] for text that is not an id.
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

    /// The same model at `revision`.
    ///
    /// # Errors
    /// A [`Fault`] for a malformed revision, or if the id already has another one.
    pub fn at(mut self, revision: &str) -> Result<Self> {
        if !is_revision(revision) {
            return Err(Fault::new("not a revision of a model")
                .expected("a branch, a tag, a commit, or refs/pr/N")
                .got(format!("`{revision}`"))
                .hint("leave it out to use the main branch")
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

    /// The revision to request from the hub.
    pub(crate) fn wanted_revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The repository's directory in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("{}--{}", self.plural(), self.id.replace('/', "--"))
    }

    /// Path of its page and files, below the hub's address.
    pub(crate) fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            Kind::DataSet => format!("datasets/{}", self.id),
        }
    }

    /// Path of the listing of its files, below the hub's address.
    pub(crate) fn listing(&self) -> String {
        let revision = escaped(self.wanted_revision()).replace('/', "%2F");
        format!("api/{}/{}/revision/{revision}?blobs=true", self.plural(), self.id)
    }

    /// Its kind, for messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Model => "model",
            Kind::DataSet => "data set",
        }
    }

    /// For messages about a MODEL argument, which may also be a directory.
    pub(crate) fn or_directory(&self) -> String {
        match self.kind {
            Kind::Model => format!("a directory {} on this machine, or ", self.id),
            Kind::DataSet => String::new(),
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

/// Whether `text` is a full commit hash.
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
        assert_eq!((model.id.as_str(), model.wanted_revision()), ("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(model.folder(), "models--Qwen--Qwen3-0.6B");
        assert_eq!(model.listing(), "api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true");
        assert_eq!(parse("a/b@refs/pr/3").unwrap().wanted_revision(), "refs/pr/3");
        assert_eq!(parse("a/b@v1.0").unwrap().at("v1.0").unwrap().wanted_revision(), "v1.0");
        assert!(parse("a/b@v1.0").unwrap().at("v2").is_err());
    }

    #[test]
    fn data_sets_have_their_own_addresses_and_directories() {
        let rows = HubId::data_set("openai/gsm8k").unwrap();
        assert_eq!(rows.folder(), "datasets--openai--gsm8k");
        assert_eq!(rows.listing(), "api/datasets/openai/gsm8k/revision/refs%2Fconvert%2Fparquet?blobs=true");
        assert_eq!(rows.page(), "datasets/openai/gsm8k");
        for id in ["gsm8k", "../gsm8k", "openai/gsm8k@main", "a/b/c", "a/..", ""] {
            assert!(HubId::data_set(id).unwrap_err().fault().is_some(), "{id}");
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
            assert!(error.fault().is_some(), "{revision}");
        }
    }

    proptest! {
        /// Whatever is accepted as an id is two plain names, and its revision is a path below a directory.
        #[test]
        fn accepted_ids_are_plain_names(text in "[a-z./@~\\\\ -]{0,12}") {
            if let Ok(Some(model)) = HubId::parse(&text) {
                prop_assert_eq!(model.folder().matches(['/', '\\']).count(), 0);
                for part in model.id.split('/').chain(model.wanted_revision().split('/')) {
                    prop_assert!(!part.is_empty() && !part.starts_with('.'));
                }
            }
        }
    }
}
