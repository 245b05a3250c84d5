//! As much of HTTP/1.1 as one request per connection takes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Longest request that is read.
const MAX_REQUEST: usize = 1 << 14;
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest silence.
const STALL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Answer {
    code: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(code: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { code, headers: Vec::new(), body: body.into() }
    }

    pub fn with(mut self, headers: &[(&str, &str)]) -> Self {
        headers.iter().for_each(|(name, value)| self.set(name, value));
        self
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }
}

/// The bytes that were asked for: all of them, or from an offset on.
pub(super) fn part(request: &Request, bytes: &[u8]) -> Answer {
    let from = request.header("range").and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        // Only what Lopper sends; Python's library asks for nothing else either.
        if to.is_empty() { from.parse::<usize>().ok() } else { None }
    });
    match from {
        None => Answer::new(200, bytes).with(&[("Accept-Ranges", "bytes")]),
        Some(from) if from < bytes.len() => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206, &bytes[from..]).with(&[("Content-Range", &range)])
        }
        Some(_) => Answer::new(416, ""),
    }
}

pub(super) fn read(stream: &mut TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if text.len() >= MAX_REQUEST || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_lowercase(), value.trim().to_owned()))
    };
    Some(Request { method, path, headers: lines.filter_map(header).collect() })
}

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Whole,
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// It stays open after so many bytes of the body, until the other side closes it.
    Stall(usize),
}

pub(super) fn write(stream: &mut TcpStream, request: &Request, answer: &Answer, end: End) {
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", answer.code);
    if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    answer.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    let body = if request.method == "HEAD" { &[] } else { answer.body.as_slice() };
    let body = match end {
        End::Whole => body,
        End::Cut(bytes) | End::Stall(bytes) => &body[..bytes.min(body.len())],
    };
    // Whoever asked may be gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    if let End::Stall(_) = end {
        let _ = stream.set_read_timeout(Some(STALL)).and_then(|()| stream.read(&mut [0]));
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// A path with its `%` escapes undone.
pub(super) fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
