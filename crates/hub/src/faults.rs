//! From a failed request to an error message: whether the user can fix it, and how.

use anyhow::anyhow;
use lopper_record::{Error, Fault};

use crate::client::{Client, Failure, Status};
use crate::id::{HubId, Kind, PARQUET_REVISION};

/// What was requested when it failed.
pub(crate) struct FailedRequest<'a> {
    pub client: &'a Client,
    pub repository: &'a HubId,
    /// `None` for a request about the repository itself.
    pub file: Option<&'a str>,
}

impl FailedRequest<'_> {
    /// The error for the user.
    pub fn explain(&self, failure: Failure) -> Error {
        let id = &self.repository.id;
        match failure {
            Failure::Stopped(error) => error,
            Failure::Malformed(what) => anyhow!("unexpected response from the hub for {}: {what}", self.what()).into(),
            Failure::Unreachable { host, error, .. } => Fault::new("the hub cannot be reached")
                .expected(format!("a response from {host} about {id}"))
                .got(error)
                .hint(
                    "check the network (HTTPS_PROXY sets a proxy, HF_ENDPOINT another hub); --offline uses the cache only",
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
            return anyhow!("the hub's file store refused {}: {got}", self.what()).into();
        }
        match (status.code, status.kind.as_deref()) {
            (_, Some("GatedRepo")) => Fault::new(format!("access to {id} is gated"))
                .expected("an account that its authors have given access")
                .got(got)
                .hint(format!("request access at {page}, then {}", self.sign_in()))
                .into(),
            (_, Some("RevisionNotFound")) if self.repository.kind == Kind::DataSet => {
                Fault::new(format!("the hub has no Parquet files of {id}"))
                    .expected(format!("the branch {PARQUET_REVISION}, which the hub creates for most data sets"))
                    .got(got)
                    .hint(format!("see {page} for its files"))
                    .into()
            }
            (_, Some("RevisionNotFound")) => {
                Fault::new(format!("{id} has no revision `{}`", self.repository.wanted_revision()))
                    .expected("a branch, a tag, a commit, or refs/pr/N")
                    .got(got)
                    .hint(format!("{page}/tree/main lists them"))
                    .into()
            }
            (401, None) if status.message.as_deref().is_some_and(|m| m.contains("Invalid credentials")) => {
                Fault::new("the hub rejects the access token")
                    .expected("a valid token in HF_TOKEN or the token file")
                    .got(got)
                    .hint("`hf auth login` stores a new one; unset HF_TOKEN to use none")
                    .into()
            }
            (404, Some("EntryNotFound")) => anyhow!("the hub lists {} but does not have it: {got}", self.what()).into(),
            (404, _) | (401, _) | (_, Some("RepoNotFound")) => {
                Fault::new(format!("there is no {noun} {id} on the hub, or it is private"))
                    .expected(format!("{}a {noun} at {page}", self.repository.or_directory()))
                    .got(got)
                    .hint(format!("check the spelling; for a private {noun}, {}", self.sign_in()))
                    .into()
            }
            (403, _) => Fault::new(format!("the hub denies access to {id}"))
                .expected("an account that may read it")
                .got(got)
                .hint(self.sign_in())
                .into(),
            (429, _) => {
                let wait = match status.retry_after.as_deref().and_then(|text| text.parse::<u64>().ok()) {
                    Some(seconds) => format!("try again in {seconds} s"),
                    None => "try again in some minutes".to_owned(),
                };
                let more =
                    if self.client.has_token() { "" } else { "; the hub allows more requests with a token (HF_TOKEN)" };
                Fault::new("too many requests to the hub")
                    .expected("fewer requests")
                    .got(got)
                    .hint(format!("{wait}{more}"))
                    .into()
            }
            _ => anyhow!("the hub failed at {}: {got}", self.what()).into(),
        }
    }

    fn sign_in(&self) -> String {
        let other = if self.client.has_token() { "another" } else { "a" };
        format!("use {other} access token: `hf auth login`, or HF_TOKEN")
    }
}
