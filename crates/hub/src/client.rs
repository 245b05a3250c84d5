//! Requests to the hub. Redirects are followed here, so that the token is sent to the hub's own address only.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use lopper_record::{Context, Fault, Progress, Result};
use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::settings::Settings;

/// Most redirects in a row; the hub needs two.
const MAX_REDIRECTS: usize = 5;
/// Largest listing, enough for some ten thousand files.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Time limit for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Time limit for a server that sends nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Pauses before the retries of a failed request.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No response: no network, no such host, connection refused or broken, timeout.
    Unreachable {
        host: String,
        error: String,
        /// Whether an immediate retry may succeed.
        retry: bool,
    },
    /// An error status.
    Status(Status),
    /// A response that breaks the protocol.
    Malformed(String),
    /// Interrupted by the caller, or an error on this machine.
    Stopped(lopper_record::Error),
}

/// A response with an error status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub code: u16,
    /// `X-Error-Code`: `RepoNotFound`, `GatedRepo`, `RevisionNotFound`, `EntryNotFound`.
    pub kind: Option<String>,
    /// `X-Error-Message`.
    pub message: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// Whether it came from the hub itself, and not from a file store that it redirected to.
    pub at_hub: bool,
}

impl Status {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, 408 | 500 | 502 | 503 | 504)
    }
}

/// The headers of a file.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub etag: Option<String>,
    /// Whether the etag is from large-file storage, which is the SHA-256 of the contents.
    pub linked: bool,
    pub size: Option<u64>,
    pub commit: Option<String>,
}

/// A download in progress.
pub(crate) struct Incoming {
    /// The offset of its first byte in the file.
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
            // Sizes and hashes are of the stored bytes, so no compression.
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

    /// The address of `path` on the hub.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// The JSON document at `url`.
    pub fn json(&self, url: &str, progress: &dyn Progress) -> Result<Value, Failure> {
        let response = with_retries(progress, || accepted(self.follow(url, &Verb::Get)?))?;
        let mut bytes = Vec::new();
        let mut reader = response.into_body().into_reader().take(MAX_JSON_BYTES + 1);
        reader.read_to_end(&mut bytes).map_err(|error| broken_off(url, &error))?;
        if bytes.len() as u64 > MAX_JSON_BYTES {
            return Err(Failure::Malformed(format!("a listing of more than {MAX_JSON_BYTES} bytes")));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Malformed(format!("a listing that is not JSON: {error}")))
    }

    /// The headers of the file at `url` at the hub's own address, without following redirects to other hosts.
    pub fn head(&self, url: &str, progress: &dyn Progress) -> Result<Head, Failure> {
        let response = with_retries(progress, || {
            let (response, at_hub) = self.follow(url, &Verb::Head)?;
            // A redirect to the store of large files is the expected response.
            if response.status().is_redirection() { Ok(response) } else { accepted((response, at_hub)) }
        })?;
        let headers = response.headers();
        let linked = text(headers, "x-linked-etag");
        let linked_size = text(headers, "x-linked-size").and_then(|size| size.parse().ok());
        let own_size = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        Ok(Head {
            linked: linked.is_some(),
            etag: linked.or_else(|| text(headers, header::ETAG.as_str())).map(|etag| bare(&etag)),
            // The length of a redirect is not the file's.
            size: linked_size.or(own_size.filter(|_| response.status().is_success())),
            commit: text(headers, "x-repo-commit"),
        })
    }

    /// The bytes of the file at `url` from the offset `from` on, or all of them if the server does not support ranges.
    pub fn open(&self, url: &str, from: u64) -> Result<Incoming, Failure> {
        let response = accepted(self.follow(url, &Verb::From(from))?)?;
        let start = match response.status().as_u16() {
            206 => match text(response.headers(), header::CONTENT_RANGE.as_str()).as_deref().and_then(range_start) {
                Some(start) if start == from => from,
                _ => return Err(Failure::Malformed("another part of the file than was requested".to_owned())),
            },
            _ => 0,
        };
        Ok(Incoming { start, reader: Box::new(response.into_body().into_reader()) })
    }

    /// Sends a request, and again wherever it is redirected to. [`Verb::Head`] does not leave the hub's
    /// own address: it returns a redirect away from it. Also returns whether the hub itself responded.
    fn follow(&self, url: &str, verb: &Verb) -> Result<(Response<Body>, bool), Failure> {
        let hub = origin(&self.endpoint);
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = hub.is_some() && origin(&url) == hub;
            let response = self.send(&url, verb, at_hub)?;
            let location = text(response.headers(), header::LOCATION.as_str());
            let Some(location) = location.filter(|_| is_redirect(response.status().as_u16())) else {
                return Ok((response, at_hub));
            };
            let target = redirected(&url, &location)
                .ok_or_else(|| Failure::Malformed("a redirect without a usable target".into()))?;
            if matches!(verb, Verb::Head) && origin(&target) != hub {
                return Ok((response, at_hub));
            }
            tracing::debug!(from = %shown(&url), to = %shown(&target), "redirected");
            url = target;
        }
        Err(Failure::Malformed(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn send(&self, url: &str, verb: &Verb, at_hub: bool) -> Result<Response<Body>, Failure> {
        tracing::debug!(url = %shown(url), ?verb, "request");
        let mut request = match verb {
            Verb::Head => self.agent.head(url),
            Verb::Get | Verb::From(_) => self.agent.get(url),
        };
        if let (true, Some(token)) = (at_hub, &self.token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Verb::From(from @ 1..) = verb {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| unreachable(url, &error))
    }
}

#[derive(Debug)]
enum Verb {
    Head,
    Get,
    /// Get the bytes from this offset on.
    From(u64),
}

/// Repeats a request after a pause if it failed in a way that may pass.
fn with_retries<T>(progress: &dyn Progress, mut request: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for duration in PAUSES {
        match request() {
            Err(Failure::Status(status)) if status.is_transient() => {}
            Err(Failure::Unreachable { retry: true, .. }) => {}
            other => return other,
        }
        pause(duration, progress)?;
    }
    request()
}

/// Waits, unless interrupted.
pub(crate) fn pause(duration: Duration, progress: &dyn Progress) -> Result<(), Failure> {
    const STEP: Duration = Duration::from_millis(100);
    let mut left = duration;
    loop {
        progress.check().map_err(Failure::Stopped)?;
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
    let retry = match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
        ),
        ureq::Error::Protocol(error) => return Failure::Malformed(format!("not HTTP: {error}")),
        _ => false,
    };
    Failure::Unreachable { host: host(url), error: error.to_string(), retry }
}

pub(crate) fn broken_off(url: &str, error: &std::io::Error) -> Failure {
    Failure::Unreachable { host: host(url), error: error.to_string(), retry: true }
}

fn is_redirect(code: u16) -> bool {
    matches!(code, 301 | 302 | 303 | 307 | 308)
}

/// A header's text, if it is ASCII.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// An etag without its quotes and the mark of weak ones.
fn bare(etag: &str) -> String {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned()
}

/// `bytes 100-199/200` begins at 100.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Scheme, host and port. The token is sent only where all three are the hub's.
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

/// The target of the redirect `location` from `url`; none unless it is HTTP, or if it leads from HTTPS to HTTP.
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

/// An address for the log, without its query: that may be a signature that gives access to the file.
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
        if let PemItem::Certificate(certificate) = item.map_err(|error| fault(error.to_string()))? {
            found.push(certificate);
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
    fn targets_of_redirects() {
        let from = |location| redirected("https://hub.co/a/resolve/main/x?y=1", location);
        assert_eq!(from("/b/x").as_deref(), Some("https://hub.co:443/b/x"));
        assert_eq!(from("z").as_deref(), Some("https://hub.co/a/resolve/main/z"));
        assert_eq!(from("//cdn.co/x").as_deref(), Some("https://cdn.co/x"));
        assert_eq!(from("https://cdn.co/x?s=1").as_deref(), Some("https://cdn.co/x?s=1"));
        assert_eq!(from("http://hub.co/x"), None, "from HTTPS to HTTP");
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
