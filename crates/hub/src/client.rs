//! Requests to the hub: redirects followed by hand, so that the token never leaves the hub's own
//! address; statuses turned into failures that can be told apart.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lopper_record::Fault;
use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::settings::Settings;
use crate::watch::Watch;

/// Redirects in a row; the hub needs two.
const MAX_REDIRECTS: usize = 5;
/// The listing of a repository of some ten thousand files.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// How long to wait for a connection, and for a server that says nothing.
const CONNECT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(30);
/// Pauses before asking again where the server failed.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No answer: no network, no such host, refused, broken off, too slow.
    Unreachable {
        host: String,
        error: String,
        /// Whether asking again at once may help.
        again: bool,
    },
    /// An answer that says no.
    Status(Status),
    /// An answer that makes no sense.
    Nonsense(String),
    /// Ended by the one who watches.
    Stopped(anyhow::Error),
}

/// What an answer that says no says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub code: u16,
    /// `X-Error-Code`: `RepoNotFound`, `GatedRepo`, `RevisionNotFound`, `EntryNotFound`.
    pub kind: Option<String>,
    /// `X-Error-Message`.
    pub message: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// Whether the hub itself said so, and not a store of files that it redirected to.
    pub at_hub: bool,
}

impl Status {
    /// Whether asking again may help.
    pub fn passes(&self) -> bool {
        matches!(self.code, 408 | 500 | 502 | 503 | 504)
    }
}

/// What the headers of a file tell.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub etag: Option<String>,
    /// The etag is that of large-file storage, which is the SHA-256 of the contents.
    pub linked: bool,
    pub size: Option<u64>,
    pub commit: Option<String>,
}

/// A file's bytes on their way.
pub(crate) struct Incoming {
    /// The offset at which they begin.
    pub start: u64,
    pub reader: Box<dyn Read>,
}

pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &settings.certificates {
            tls = tls.root_certs(certificates(path)?);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("lopper/", env!("CARGO_PKG_VERSION")))
            // Sizes and hashes are those of the bytes as stored.
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .tls_config(tls.build())
            .build();
        Ok(Self { agent: config.into(), endpoint: settings.endpoint.clone(), token: settings.token.clone() })
    }

    /// Whether requests carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The address of what stands at `path` of the hub.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// The JSON document at `url`.
    pub fn json(&self, url: &str, watch: &dyn Watch) -> Result<Value, Failure> {
        let response = persist(watch, || accepted(self.follow(url, &Ask::Get)?))?;
        let mut bytes = Vec::new();
        let mut reader = response.into_body().into_reader().take(MAX_JSON_BYTES + 1);
        reader.read_to_end(&mut bytes).map_err(|error| broken_off(url, &error))?;
        if bytes.len() as u64 > MAX_JSON_BYTES {
            return Err(Failure::Nonsense(format!("a listing of more than {MAX_JSON_BYTES} bytes")));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Nonsense(format!("a listing that is not JSON: {error}")))
    }

    /// What the hub's own address says of the file at `url`, without going where it redirects.
    pub fn head(&self, url: &str, watch: &dyn Watch) -> Result<Head, Failure> {
        let response = persist(watch, || {
            let (response, at_hub) = self.follow(url, &Ask::Head)?;
            // A redirect to the store of large files is the answer that was wanted.
            if response.status().is_redirection() { Ok(response) } else { accepted((response, at_hub)) }
        })?;
        let headers = response.headers();
        let linked = text(headers, "x-linked-etag");
        let linked_size = text(headers, "x-linked-size").and_then(|size| size.parse().ok());
        let own_size = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        Ok(Head {
            linked: linked.is_some(),
            etag: linked.or_else(|| text(headers, header::ETAG.as_str())).map(|etag| bare(&etag)),
            // The length of a redirect is its own.
            size: linked_size.or(own_size.filter(|_| response.status().is_success())),
            commit: text(headers, "x-repo-commit"),
        })
    }

    /// The bytes of the file at `url` from the offset `from` on, if the server can do that; else
    /// from the beginning.
    pub fn open(&self, url: &str, from: u64) -> Result<Incoming, Failure> {
        let response = accepted(self.follow(url, &Ask::From(from))?)?;
        let start = match response.status().as_u16() {
            206 => match text(response.headers(), header::CONTENT_RANGE.as_str()).as_deref().and_then(range_start) {
                Some(start) if start == from => from,
                _ => return Err(Failure::Nonsense("another part of the file than was asked for".to_owned())),
            },
            _ => 0,
        };
        Ok(Incoming { start, reader: Box::new(response.into_body().into_reader()) })
    }

    /// Sends a request, and again wherever it is redirected to. [`Ask::Head`] stays at the hub's own
    /// address and returns a redirect away from it. Also tells whether the hub answered.
    fn follow(&self, url: &str, ask: &Ask) -> Result<(Response<Body>, bool), Failure> {
        let hub = origin(&self.endpoint);
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = hub.is_some() && origin(&url) == hub;
            let response = self.send(&url, ask, at_hub)?;
            let location = text(response.headers(), header::LOCATION.as_str());
            let Some(location) = location.filter(|_| is_redirect(response.status().as_u16())) else {
                return Ok((response, at_hub));
            };
            let target =
                redirected(&url, &location).ok_or_else(|| Failure::Nonsense("a redirect to nowhere".into()))?;
            if matches!(ask, Ask::Head) && origin(&target) != hub {
                return Ok((response, at_hub));
            }
            tracing::debug!(from = %shown(&url), to = %shown(&target), "redirected");
            url = target;
        }
        Err(Failure::Nonsense(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn send(&self, url: &str, ask: &Ask, at_hub: bool) -> Result<Response<Body>, Failure> {
        tracing::debug!(url = %shown(url), ?ask, "request");
        let mut request = match ask {
            Ask::Head => self.agent.head(url),
            Ask::Get | Ask::From(_) => self.agent.get(url),
        };
        if let (true, Some(token)) = (at_hub, &self.token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Ask::From(from @ 1..) = ask {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| unreachable(url, &error))
    }
}

#[derive(Debug)]
enum Ask {
    Head,
    Get,
    From(u64),
}

/// Asks again after a pause where the server failed and may do better.
fn persist<T>(watch: &dyn Watch, mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for pause in PAUSES {
        match ask() {
            Err(Failure::Status(status)) if status.passes() => {}
            Err(Failure::Unreachable { again: true, .. }) => {}
            other => return other,
        }
        rest(pause, watch)?;
    }
    ask()
}

/// Waits, and looks every now and then whether to go on.
pub(crate) fn rest(pause: Duration, watch: &dyn Watch) -> Result<(), Failure> {
    const STEP: Duration = Duration::from_millis(100);
    let mut left = pause;
    loop {
        watch.check().map_err(Failure::Stopped)?;
        if left.is_zero() {
            return Ok(());
        }
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}

fn accepted((response, at_hub): (Response<Body>, bool)) -> Result<Response<Body>, Failure> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (code, headers) = (response.status().as_u16(), response.headers());
    Err(Failure::Status(Status {
        code,
        kind: text(headers, "x-error-code"),
        message: text(headers, "x-error-message"),
        retry_after: text(headers, header::RETRY_AFTER.as_str()),
        at_hub,
    }))
}

fn unreachable(url: &str, error: &ureq::Error) -> Failure {
    let again = match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
        ),
        ureq::Error::Protocol(error) => return Failure::Nonsense(format!("not HTTP: {error}")),
        _ => false,
    };
    Failure::Unreachable { host: host(url), error: error.to_string(), again }
}

pub(crate) fn broken_off(url: &str, error: &std::io::Error) -> Failure {
    Failure::Unreachable { host: host(url), error: error.to_string(), again: true }
}

fn is_redirect(code: u16) -> bool {
    matches!(code, 301 | 302 | 303 | 307 | 308)
}

/// A header's text, if it is ASCII.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// An etag without its quotes and the mark of weakness.
fn bare(etag: &str) -> String {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned()
}

/// `bytes 100-199/200` begins at 100.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Scheme, host and port: what has to be the same for the token to be sent.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    })?;
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Where `location`, in an answer from `url`, leads. Nothing but HTTP, and not from encrypted to plain.
fn redirected(url: &str, location: &str) -> Option<String> {
    let (scheme, host, port) = origin(url)?;
    let target = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}:{port}{location}")
    } else {
        let path = url.split(['?', '#']).next()?;
        format!("{}/{location}", path.rsplit_once('/')?.0)
    };
    let (new_scheme, _, _) = origin(&target)?;
    (new_scheme == "https" || new_scheme == scheme).then_some(target)
}

fn host(url: &str) -> String {
    origin(url).map_or_else(String::new, |(_, host, _)| host)
}

/// An address for the log: what follows `?` may be a signature that opens a file to whoever has it.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

fn certificates(path: &std::path::Path) -> Result<RootCerts> {
    let fault = |got: String| {
        Fault::new("the certificates that SSL_CERT_FILE names cannot be read")
            .file(path)
            .expected("certificates in PEM form")
            .got(got)
            .hint("unset SSL_CERT_FILE to trust Mozilla's list")
    };
    let bytes = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item.map_err(|error| fault(error.to_string()))? {
            PemItem::Certificate(certificate) => found.push(certificate),
            _ => continue,
        }
    }
    if found.is_empty() {
        return Err(fault("no certificate".to_owned())).context("preparing the connection");
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_should_and_nowhere_else() {
        let from = |location| redirected("https://hub.co/a/resolve/main/x?y=1", location);
        assert_eq!(from("/b/x").as_deref(), Some("https://hub.co:443/b/x"));
        assert_eq!(from("z").as_deref(), Some("https://hub.co/a/resolve/main/z"));
        assert_eq!(from("//cdn.co/x").as_deref(), Some("https://cdn.co/x"));
        assert_eq!(from("https://cdn.co/x?s=1").as_deref(), Some("https://cdn.co/x?s=1"));
        assert_eq!(from("http://hub.co/x"), None, "from encrypted to plain");
        assert_eq!(from("file:///etc/passwd"), None);
        assert_eq!(redirected("http://hub/x", "http://cdn/x").as_deref(), Some("http://cdn/x"));
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_hub() {
        assert_eq!(origin("https://HUB.co/x"), origin("https://hub.co:443/y"));
        for other in ["http://hub.co", "https://hub.co:444", "https://cdn.hub.co", "https://hub.co@evil.co/"] {
            assert_ne!(origin("https://hub.co"), origin(other), "{other}");
        }
        assert_eq!(origin("hub.co/x"), None);
    }

    #[test]
    fn headers_are_read_as_sent() {
        assert_eq!(bare("W/\"abc\""), "abc");
        assert_eq!(bare("\"abc\""), "abc");
        assert_eq!(range_start("bytes 100-199/200"), Some(100));
        assert_eq!(range_start("bytes */200"), None);
        assert_eq!(shown("https://cdn/x?Signature=secret"), "https://cdn/x");
    }
}
