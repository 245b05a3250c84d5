//! From a failed request to what the user is told: whose fault it is, and what to do.

use anyhow::{Error, anyhow};
use lopper_record::Fault;

use crate::client::{Client, Failure, Status};
use crate::id::{HubId, Kind, PARQUET_REVISION};

/// What was asked for when it failed.
pub(crate) struct Asked<'a> {
    pub client: &'a Client,
    pub repository: &'a HubId,
    /// `None` where the repository itself was asked about.
    pub file: Option<&'a str>,
}

impl Asked<'_> {
    /// What the user is told of `failure`.
    pub fn explain(&self, failure: Failure) -> Error {
        let id = &self.repository.id;
        match failure {
            Failure::Stopped(error) => error,
            Failure::Nonsense(what) => anyhow!("the hub's answer about {} makes no sense: {what}", self.what()),
            Failure::Unreachable { host, error, .. } => Fault::new("the hub cannot be reached")
                .expected(format!("an answer about {id} from {host}"))
                .got(error)
                .hint(
                    "check the network (HTTPS_PROXY names a proxy, HF_ENDPOINT another hub); --offline uses what is \
                     in the cache",
                )
                .into(),
            Failure::Status(status) => self.refused(&status),
        }
    }

    fn what(&self) -> String {
        match self.file {
            Some(file) => format!("{file} of {}", self.repository.id),
            None => self.repository.id.clone(),
        }
    }

    fn refused(&self, status: &Status) -> Error {
        let id = &self.repository.id;
        let got = match &status.message {
            // Part of a server's text: bounded, and without what could move the cursor.
            Some(message) => {
                let message: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
                format!("status {}: {message}", status.code)
            }
            None => format!("status {}", status.code),
        };
        let page = self.client.address(&self.repository.page());
        let noun = self.repository.noun();
        if !status.at_hub {
            return anyhow!("the store of the hub's files does not give {}: {got}", self.what());
        }
        match (status.code, status.kind.as_deref()) {
            (_, Some("GatedRepo")) => Fault::new(format!("access to {id} has to be granted"))
                .expected("an account that its authors let in")
                .got(got)
                .hint(format!("ask for access at {page}, then {}", self.sign_in()))
                .into(),
            (_, Some("RevisionNotFound")) if self.repository.kind == Kind::DataSet => {
                Fault::new(format!("the hub has no Parquet files of {id}"))
                    .expected(format!("the branch {PARQUET_REVISION}, which the hub makes of most data sets"))
                    .got(got)
                    .hint(format!("{page} says what is there"))
                    .into()
            }
            (_, Some("RevisionNotFound")) => Fault::new(format!("{id} has no revision `{}`", self.repository.wanted()))
                .expected("a branch, a tag, a commit, or refs/pr/N")
                .got(got)
                .hint(format!("{page}/tree/main lists them"))
                .into(),
            (401, kind)
                if kind.is_none() && status.message.as_deref().is_some_and(|m| m.contains("Invalid credentials")) =>
            {
                Fault::new("the hub does not know the access token")
                    .expected("a valid token in HF_TOKEN or the token file")
                    .got(got)
                    .hint("`hf auth login` stores a new one; unset HF_TOKEN to go without")
                    .into()
            }
            (404, Some("EntryNotFound")) => {
                anyhow!("the hub lists {} and does not have it: {got}", self.what())
            }
            (404, _) | (401, _) | (_, Some("RepoNotFound")) => {
                let or = match self.repository.kind {
                    Kind::Model => format!(", or a directory {id} on this machine"),
                    Kind::DataSet => String::new(),
                };
                Fault::new(format!("there is no {noun} {id} on the hub, or it is private"))
                    .expected(format!("a {noun} at {page}{or}"))
                    .got(got)
                    .hint(format!("check the spelling; for a private {noun}, {}", self.sign_in()))
                    .into()
            }
            (403, _) => Fault::new(format!("the hub gives no access to {id}"))
                .expected("an account that may read it")
                .got(got)
                .hint(self.sign_in())
                .into(),
            (429, _) => {
                let wait = match status.retry_after.as_deref().and_then(|text| text.parse::<u64>().ok()) {
                    Some(seconds) => format!("try again in {seconds} s"),
                    None => "try again in some minutes".to_owned(),
                };
                let more = if self.client.has_token() { "" } else { "; with a token (HF_TOKEN) the hub allows more" };
                Fault::new("the hub has had too many requests from here")
                    .expected("fewer requests")
                    .got(got)
                    .hint(format!("{wait}{more}"))
                    .into()
            }
            _ => anyhow!("the hub failed at {}: {got}", self.what()),
        }
    }

    fn sign_in(&self) -> String {
        let other = if self.client.has_token() { "another" } else { "a" };
        format!("give {other} token: `hf auth login`, or HF_TOKEN")
    }
}
