//! A hub on this machine, for tests: speaks as much of the Hugging Face hub's protocol as loading a
//! model, or rows of a data set, takes, and misbehaves on request.
//!
//! There are two addresses, as in life: the hub, which lists repositories and serves small files, and
//! a store of large files, to which the hub redirects. Both listen on the loopback device only, answer
//! one request per connection, and end when the value is dropped. Every request is logged.
//!
//! Written from what huggingface_hub 2.4 asks for; `fixtures/hub/check.py` compares both programs.

mod http;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use http::{Answer, End, Request};

/// What the server does wrong with requests whose path contains a given text.
#[derive(Debug, Clone)]
pub enum Trick {
    /// Answers with this status and these headers.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// Closes the connection after so many bytes of the body.
    CutAfter(usize),
    /// Says nothing more after so many bytes of the body, and keeps the connection until the asker
    /// closes it.
    StallAfter(usize),
    /// Sends this body, with a length that fits it.
    Body(Vec<u8>),
    /// Leaves `Range` out of account.
    NoRange,
    /// Adds or replaces headers.
    Headers(Vec<(&'static str, String)>),
}

/// Which of the two addresses was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The hub itself.
    Hub,
    /// The store of large files.
    Store,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Where it came.
    pub side: Side,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
}

struct File {
    bytes: Vec<u8>,
    large: bool,
    /// As the hub names it: SHA-256 of a large file, git's hash of another.
    etag: String,
}

#[derive(Default)]
struct Repository {
    commits: BTreeMap<String, BTreeMap<String, File>>,
    branches: BTreeMap<String, String>,
    /// Entries that the listing has besides the files, and fields that replace its own.
    also_listed: Vec<Value>,
    listing: BTreeMap<&'static str, Value>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    tricks: Vec<(String, Trick, usize)>,
    log: Vec<Logged>,
    store: Option<SocketAddr>,
}

/// The running server.
pub struct HubServer {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    addresses: [SocketAddr; 2],
    threads: Vec<JoinHandle<()>>,
}

impl HubServer {
    /// Starts a hub without repositories.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("a port on the loopback device");
        let listeners = [listen(), listen()];
        let addresses = [&listeners[0], &listeners[1]].map(|l| l.local_addr().expect("an address"));
        lock(&state).store = Some(addresses[1]);
        let sides = [Side::Hub, Side::Store];
        let threads = listeners.into_iter().zip(sides).map(|(listener, side)| {
            let (state, stop) = (state.clone(), stop.clone());
            std::thread::spawn(move || serve(&listener, side, &state, &stop))
        });
        let threads = threads.collect();
        Self { state, stop, addresses, threads }
    }

    /// What `HF_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// Adds a commit with these files to the repository `id` (`datasets/organisation/name` of a data set) and
    /// moves its main branch there; files that end in `.safetensors`, `.bin` or `.parquet` are large. Returns
    /// the commit.
    pub fn publish(&self, id: &str, files: &[(&str, Vec<u8>)]) -> String {
        let mut contents = BTreeMap::new();
        let mut hasher = Sha1::new();
        for (path, bytes) in files {
            let large = [".safetensors", ".bin", ".parquet"].iter().any(|ending| path.ends_with(ending));
            let etag = if large { hex(&Sha256::digest(bytes)) } else { git_hash(bytes) };
            hasher.update(format!("{path} {etag}\n"));
            contents.insert((*path).to_owned(), File { bytes: bytes.clone(), large, etag });
        }
        let mut state = self.state();
        let repository = state.repositories.entry(id.to_owned()).or_default();
        hasher.update(format!("{id} {}", repository.commits.len()));
        let commit = hex(&hasher.finalize());
        repository.commits.insert(commit.clone(), contents);
        repository.branches.insert("main".to_owned(), commit.clone());
        commit
    }

    /// Adds a commit with these Parquet files to the data set `organisation/name`, as the hub converts them. Returns
    /// the commit.
    pub fn publish_rows(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String {
        let id = format!("datasets/{name}");
        let commit = self.publish(&id, files);
        self.branch(&id, "refs/convert/parquet", &commit);
        commit
    }

    /// Lets the branch or tag `name` stand at `commit`.
    pub fn branch(&self, id: &str, name: &str, commit: &str) {
        let mut state = self.state();
        let repository = state.repositories.entry(id.to_owned()).or_default();
        repository.branches.insert(name.to_owned(), commit.to_owned());
    }

    /// Lists an entry that there may be no file for.
    pub fn also_list(&self, id: &str, entry: Value) {
        self.state().repositories.entry(id.to_owned()).or_default().also_listed.push(entry);
    }

    /// Replaces a field of the listing.
    pub fn set_listing(&self, id: &str, key: &'static str, value: Value) {
        self.state().repositories.entry(id.to_owned()).or_default().listing.insert(key, value);
    }

    /// Plays `trick` on every request whose path contains `part`, at most `times` times.
    pub fn trick(&self, part: &str, trick: Trick, times: usize) {
        self.state().tricks.push((part.to_owned(), trick, times));
    }

    /// Plays no tricks any more.
    pub fn behave(&self) {
        self.state().tricks.clear();
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Logged> {
        std::mem::take(&mut self.state().log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the threads that wait for a connection.
        self.addresses.iter().for_each(|address| drop(TcpStream::connect(address)));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, side: Side, state: &Mutex<State>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        if let Some(request) = http::read(&mut stream) {
            let (answer, end) = answer(&request, side, &mut lock(state));
            // On a thread of its own, because an answer may stall.
            std::thread::spawn(move || http::write(&mut stream, &request, &answer, end));
        }
    }
}

/// The answer, and how it ends.
fn answer(request: &Request, side: Side, state: &mut State) -> (Answer, End) {
    state.log.push(Logged {
        side,
        method: request.method.clone(),
        path: request.path.clone(),
        authorization: request.header("authorization"),
        range: request.header("range"),
    });
    let mut tricks = Vec::new();
    for (part, trick, left) in &mut state.tricks {
        if request.path.contains(part.as_str()) && *left > 0 {
            *left -= 1;
            tricks.push(trick.clone());
        }
    }
    let mut request = request.clone();
    if tricks.iter().any(|trick| matches!(trick, Trick::NoRange)) {
        request.headers.remove("range");
    }
    let mut answer = match side {
        Side::Hub => hub(&request, state),
        Side::Store => store(&request, state),
    };
    let mut end = End::Whole;
    let has_body = request.method == "GET" && !answer.body.is_empty();
    for trick in tricks {
        match trick {
            Trick::Status(code, headers) => answer = Answer::new(code, "{}").with(&headers),
            Trick::CutAfter(bytes) if has_body => end = End::Cut(bytes),
            Trick::StallAfter(bytes) if has_body => end = End::Stall(bytes),
            Trick::Body(body) => answer.body = body,
            Trick::Headers(headers) => headers.into_iter().for_each(|(name, value)| answer.set(name, &value)),
            Trick::CutAfter(_) | Trick::StallAfter(_) | Trick::NoRange => {}
        }
    }
    (answer, end)
}

/// `/api/models/ID/revision/REV` and `/ID/resolve/REV/FILE`, and the same of `datasets`.
fn hub(request: &Request, state: &State) -> Answer {
    let path = http::unescaped(request.path.split('?').next().unwrap_or_default());
    let none = |kind| Answer::new(404, "{}").with(&[("X-Error-Code", kind), ("X-Error-Message", "not found")]);
    let listed =
        path.strip_prefix("/api/models/").or(path.strip_prefix("/api/").filter(|id| id.starts_with("datasets/")));
    if let Some((id, revision)) = listed.and_then(|rest| rest.split_once("/revision/")) {
        // As the hub does for whoever shows no token: it does not say whether there is such a model.
        let Some(repository) = state.repositories.get(id) else {
            return Answer::new(401, "{}").with(&[("X-Error-Code", "RepoNotFound")]);
        };
        let Some((commit, files)) = repository.find(revision) else { return none("RevisionNotFound") };
        return Answer::new(200, repository.listing(id, commit, files).to_string())
            .with(&[("Content-Type", "application/json")]);
    }
    let Some((id, rest)) = path.trim_start_matches('/').split_once("/resolve/") else { return none("EntryNotFound") };
    let Some(repository) = state.repositories.get(id) else { return none("RepoNotFound") };
    let Some((revision, file)) = rest.split_once('/') else { return none("EntryNotFound") };
    let Some((commit, files)) = repository.find(revision) else { return none("RevisionNotFound") };
    let Some(found) = files.get(file) else { return none("EntryNotFound").with(&[("X-Repo-Commit", commit)]) };
    let quoted = format!("\"{}\"", found.etag);
    if found.large {
        let store = state.store.map(|address| address.to_string()).unwrap_or_default();
        let location = format!("http://{store}/{}?signature=secret", found.etag);
        let size = found.bytes.len().to_string();
        return Answer::new(302, "Found. Redirecting").with(&[
            ("Location", &location),
            ("X-Repo-Commit", commit),
            ("X-Linked-Etag", &quoted),
            ("X-Linked-Size", &size),
        ]);
    }
    let headers = [("ETag", quoted.as_str()), ("X-Repo-Commit", commit)];
    http::part(request, &found.bytes).with(&headers)
}

/// `/ETAG` of any large file.
fn store(request: &Request, state: &State) -> Answer {
    let etag = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let mut files = state.repositories.values().flat_map(|r| r.commits.values()).flat_map(BTreeMap::values);
    match files.find(|file| file.etag == etag) {
        Some(file) => http::part(request, &file.bytes).with(&[("ETag", "\"of-the-store\"")]),
        None => Answer::new(404, ""),
    }
}

impl Repository {
    fn find(&self, revision: &str) -> Option<(&str, &BTreeMap<String, File>)> {
        let commit = self.branches.get(revision).map_or(revision, String::as_str);
        self.commits.get_key_value(commit).map(|(commit, files)| (commit.as_str(), files))
    }

    fn listing(&self, id: &str, commit: &str, files: &BTreeMap<String, File>) -> Value {
        let entry = |(path, file): (&String, &File)| {
            let size = file.bytes.len();
            if file.large {
                let pointer = git_hash(file.etag.as_bytes());
                let lfs = json!({"sha256": file.etag, "size": size, "pointerSize": 130});
                json!({"rfilename": path, "size": size, "blobId": pointer, "lfs": lfs})
            } else {
                json!({"rfilename": path, "size": size, "blobId": file.etag})
            }
        };
        let mut siblings: Vec<Value> = files.iter().map(entry).collect();
        siblings.extend(self.also_listed.iter().cloned());
        let mut listing = json!({"id": id, "modelId": id, "private": false, "sha": commit, "siblings": siblings});
        for (key, value) in &self.listing {
            listing[*key] = value.clone();
        }
        listing
    }
}

fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
