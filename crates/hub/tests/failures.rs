//! Broken and damaged downloads, refusals, malicious servers.

mod common;

use common::{TestHub, files, noise, sharded};
use lopper_hub::HubId;
use lopper_testkit::RecordedProgress;
use lopper_testkit::hub::{Side, Trick};
use serde_json::json;

const WEIGHTS: &str = "model.safetensors";

fn weights_of(hub: &TestHub, model: &str) -> Vec<u8> {
    std::fs::read(hub.load(model).unwrap().directory.join(WEIGHTS)).unwrap()
}

/// Size of the unfinished file in the cache, and whether there is a finished one.
fn blobs(hub: &TestHub) -> (Option<u64>, bool) {
    let entries: Vec<_> = hub.cache().join("models--org--name/blobs").read_dir().unwrap().map(Result::unwrap).collect();
    let partial = entries.iter().find(|e| e.file_name().to_str().unwrap().ends_with(".incomplete"));
    let whole = entries.iter().any(|e| e.file_name().len() == 64);
    (partial.map(|e| e.metadata().unwrap().len()), whole)
}

/// The ranges requested from the store since the last call.
fn ranges(hub: &TestHub) -> Vec<Option<String>> {
    hub.server.requests().into_iter().filter(|r| r.side == Side::Store).map(|r| r.range).collect()
}

#[test]
fn a_broken_connection_is_resumed() {
    let hub = TestHub::with(&files());
    hub.server.trick("?signature", Trick::CutAfter(400_000), 1);
    assert_eq!(weights_of(&hub, "org/name"), noise(1 << 20, 1));
    assert_eq!(ranges(&hub), [None, Some("bytes=400000-".to_owned())]);
}

#[test]
fn a_failed_download_is_resumed_the_next_time() {
    let hub = TestHub::with(&files());
    hub.server.trick("?signature", Trick::CutAfter(100_000), 99);
    let message = hub.failure("org/name");
    assert!(message.contains("failed 4 times") && message.contains("resumes there"), "{message}");
    // Every try brought 100,000 bytes more; nothing looks finished.
    assert_eq!(blobs(&hub), (Some(400_000), false));
    assert!(hub.offline().fault("org/name").message.contains("not in the cache"));
    ranges(&hub);

    hub.server.behave();
    assert_eq!(weights_of(&hub, "org/name"), noise(1 << 20, 1));
    assert_eq!(ranges(&hub), [Some("bytes=400000-".to_owned())]);
    assert_eq!(blobs(&hub), (None, true));
}

#[test]
fn an_interrupted_download_is_kept_and_resumed() {
    let hub = TestHub::with(&files());
    let model = HubId::parse("org/name").unwrap().unwrap();
    // The weights are a step of their own, after the other files.
    let progress = RecordedProgress::interrupting_when(|step| step.done >= 300_000);
    let error = lopper_hub::fetch(&model, &hub.settings, &|_| Ok(()), &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error:#}");
    let (partial, whole) = blobs(&hub);
    assert!(partial.unwrap() >= 300_000 && !whole);
    ranges(&hub);
    // The bytes that were there are the step's `found`.
    let (partial, size) = (partial.unwrap(), 1 << 20);
    let step = hub.recorded("org/name").last("downloading");
    assert_eq!((step.unit, step.total, step.found, step.done), ("bytes", size, partial as usize, size));
    assert_eq!(weights_of(&hub, "org/name"), noise(size, 1));
    assert_eq!(ranges(&hub), [Some(format!("bytes={partial}-"))]);
}

#[test]
fn without_support_for_ranges_a_download_starts_over() {
    let hub = TestHub::with(&files());
    hub.server.trick("?signature", Trick::CutAfter(400_000), 1);
    hub.server.trick("?signature", Trick::NoRange, 9);
    assert_eq!(weights_of(&hub, "org/name"), noise(1 << 20, 1));
}

#[test]
fn damage_is_found_by_the_hash() {
    let hub = TestHub::with(&files());
    let mut damaged = noise(1 << 20, 1);
    damaged[777] ^= 1;
    hub.server.trick("?signature", Trick::Body(damaged.clone()), 9);
    assert!(hub.failure("org/name").contains("arrived damaged"));
    assert_eq!(blobs(&hub), (None, false));

    // A small file, which has a git hash.
    let hub = TestHub::with(&files());
    hub.server.trick("/README.md", Trick::Body(b"# A mudel".to_vec()), 9);
    assert!(hub.failure("org/name").contains("README.md of org/name arrived damaged"));

    // The part that an earlier download left is damaged: the file is downloaded from the beginning.
    let hub = TestHub::with(&files());
    hub.server.trick("?signature", Trick::CutAfter(100_000), 99);
    hub.failure("org/name");
    hub.server.behave();
    let directory = hub.cache().join("models--org--name/blobs");
    let partial = directory.read_dir().unwrap().map(|e| e.unwrap().path());
    let partial = partial.into_iter().find(|path| path.to_str().unwrap().ends_with(".incomplete")).unwrap();
    std::fs::write(&partial, &damaged[..100_000]).unwrap();
    assert_eq!(weights_of(&hub, "org/name"), noise(1 << 20, 1));
}

#[test]
fn sizes_that_contradict_each_other() {
    let size = |value: &str| Trick::Headers(vec![("X-Linked-Size", value.to_owned())]);
    let hub = TestHub::with(&files());
    hub.server.trick("/model.safetensors", size("7"), 9);
    assert!(hub.failure("org/name").contains("1048576 by the listing"));

    // The listing has no sizes, and the store sends more or less than the headers announce.
    let hub = TestHub::unlisted();
    hub.server.trick("/model.safetensors", size("1000"), 9);
    assert!(hub.failure("org/name").contains("more than the 1000 bytes"));
    assert!(!blobs(&hub).1);
    let hub = TestHub::unlisted();
    hub.server.trick("/model.safetensors", size("2000000"), 9);
    let message = hub.failure("org/name");
    assert!(message.contains("of 2000000 bytes") || message.contains("status 416"), "{message}");
    assert!(!blobs(&hub).1);
}

#[test]
fn a_full_disk() {
    let hub = TestHub::new();
    let commit = hub.server.publish("org/name", &files());
    let huge = u64::MAX / 2;
    hub.server.set_listing(
        "org/name",
        "siblings",
        json!([{"rfilename": "config.json"}, {"rfilename": WEIGHTS, "size": huge, "lfs": {"sha256": "a".repeat(64), "size": huge}}]),
    );
    hub.server.trick("/model.safetensors", Trick::Headers(vec![("X-Linked-Size", huge.to_string())]), 9);
    let fault = hub.fault("org/name");
    assert!(fault.message.contains("not enough disk space") && fault.hint.unwrap().contains("HF_HUB_CACHE"));
    assert!(hub.server.requests().iter().all(|request| request.side == Side::Hub), "nothing was downloaded");
    assert!(hub.offline().fault(&format!("org/name@{commit}")).message.contains("only in part"));
}

#[test]
fn refusals_say_what_to_do() {
    let api = |code, headers: &[(&'static str, &'static str)]| {
        let hub = TestHub::with(&files());
        hub.server.trick("/api/", Trick::Status(code, headers.to_vec()), 9);
        hub.fault("org/name")
    };
    let absent = TestHub::new().fault("org/absent");
    assert!(absent.message.contains("no model org/absent") && absent.hint.unwrap().contains("HF_TOKEN"));
    assert!(api(404, &[]).message.contains("no model"));
    assert!(api(401, &[]).message.contains("private"));
    let token = api(401, &[("X-Error-Message", "Invalid credentials in Authorization header")]);
    assert!(token.message.contains("rejects the access token"));
    assert!(api(403, &[]).message.contains("denies access"));
    let gated = api(403, &[("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Access to model is restricted")]);
    assert!(gated.hint.unwrap().contains("request access at http://") && gated.got.unwrap().contains("is restricted"));
    let revision = api(404, &[("X-Error-Code", "RevisionNotFound")]);
    assert!(revision.message.contains("no revision `main`"));
    let limit = api(429, &[("Retry-After", "30")]);
    assert!(limit.hint.unwrap().contains("in 30 s; the hub allows more requests with a token"));

    let hub = TestHub::with(&files());
    assert!(hub.fault("org/name@v9").message.contains("no revision `v9`"));
    // Gated repositories list their files to everybody and serve them to some.
    hub.server.trick("/resolve/", Trick::Status(401, vec![("X-Error-Code", "GatedRepo")]), 99);
    assert!(hub.fault("org/name").message.contains("gated"));
}

#[test]
fn requests_to_failing_servers_are_retried_and_not_the_users_fault() {
    let hub = TestHub::with(&files());
    hub.server.trick("/api/", Trick::Status(503, vec![]), 2);
    hub.load("org/name").unwrap();
    let hub = TestHub::with(&files());
    hub.server.trick("/api/", Trick::Status(500, vec![]), 99);
    assert!(hub.failure("org/name").contains("the hub failed at org/name: status 500"));
    assert_eq!(hub.server.requests().len(), 3);
    hub.server.behave();
    hub.server.trick("?signature", Trick::Status(403, vec![]), 99);
    assert!(hub.failure("org/name").contains("the hub's file store refused"));
}

#[test]
fn an_index_that_reaches_outside() {
    let hostile = [
        "../../../../outside.safetensors",
        "/etc/outside.safetensors",
        "a/b.safetensors",
        "..\\\\x.safetensors",
        ".hidden.safetensors",
        "C:x.safetensors",
        "passwd",
    ];
    for name in hostile {
        let hub = TestHub::new();
        let mut repository = sharded();
        let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        repository.retain(|(name, _)| !name.ends_with("index.json"));
        repository.push(("model.safetensors.index.json", index.into_bytes()));
        hub.server.publish("org/name", &repository);
        hub.server.also_list("org/name", json!({"rfilename": name}));
        let fault = hub.fault("org/name");
        assert!(fault.message.contains("not a file of the repository"), "{name}: {fault}");
        assert!(hub.server.requests().iter().all(|request| request.side == Side::Hub), "{name}");
        hub.nothing_outside();
    }
}

#[test]
fn a_listing_that_reaches_outside() {
    let hub = TestHub::with(&files());
    for name in
        ["../../../../README.md", "/etc/README.md", "additional_chat_templates/../../../x.jinja", "LICENSE/../../x"]
    {
        hub.server.also_list("org/name", json!({"rfilename": name, "size": 3}));
    }
    hub.load("org/name").unwrap();
    hub.nothing_outside();
    for sha in [json!("../../outside"), json!("main"), json!(null), json!("A".repeat(40))] {
        hub.server.set_listing("org/name", "sha", sha);
        assert!(hub.failure("org/name").contains("without a commit"));
    }
}

#[test]
fn etags_and_commits_that_reach_outside() {
    for etag in ["../../../../outside", "a/b", "", ".x", "x.incomplete", "a b"] {
        let hub = TestHub::with(&files());
        let headers = vec![("X-Linked-Etag", format!("\"{etag}\""))];
        hub.server.trick("/model.safetensors", Trick::Headers(headers), 9);
        assert!(hub.failure("org/name").contains("no usable ETag"), "{etag}");
        hub.nothing_outside();
    }
    let hub = TestHub::with(&files());
    hub.server.trick("/model.safetensors", Trick::Headers(vec![("X-Repo-Commit", "b".repeat(40))]), 9);
    assert!(hub.failure("org/name").contains("another commit"));
}

#[test]
fn redirects_to_unusable_targets() {
    for location in ["file:///etc/passwd", "http://", "gopher://127.0.0.1/x", "\u{7f}"] {
        let hub = TestHub::with(&files());
        hub.server.trick("/README.md", Trick::Status(302, vec![("Location", location)]), 9);
        hub.failure("org/name");
    }
    let hub = TestHub::with(&files());
    hub.server.trick("/api/", Trick::Status(302, vec![("Location", "/api/models/org/name/revision/main")]), 99);
    assert!(hub.failure("org/name").contains("redirects"));
}

#[test]
fn weights_that_are_not_safetensors() {
    let hub = TestHub::new();
    let mut repository = files();
    repository.retain(|(name, _)| *name != WEIGHTS);
    repository.push(("pytorch_model.bin", b"a pickle".to_vec()));
    hub.server.publish("org/name", &repository);
    let fault = hub.fault("org/name");
    assert!(fault.got.unwrap().contains("pytorch_model.bin") && fault.hint.unwrap().contains("any code"));
    assert_eq!(hub.server.requests().len(), 1, "nothing was fetched");
}

#[test]
fn a_missing_shard() {
    let hub = TestHub::new();
    let mut repository = sharded();
    repository.retain(|(name, _)| !name.starts_with("model-00002"));
    hub.server.publish("org/name", &repository);
    let fault = hub.fault("org/name");
    assert!(fault.message.contains("shard") && fault.got.unwrap().contains("model-00002-of-00002"));

    // Listed, but missing.
    hub.server.also_list("org/name", json!({"rfilename": "model-00002-of-00002.safetensors"}));
    assert!(
        hub.failure("org/name").contains("lists model-00002-of-00002.safetensors of org/name but does not have it")
    );
}

#[test]
fn a_cache_that_lacks_a_file() {
    let hub = TestHub::new();
    let commit = hub.server.publish("org/name", &sharded());
    let snapshot = hub.load("org/name").unwrap();
    let shard = "model-00002-of-00002.safetensors";
    // Without the blob its link dangles.
    std::fs::remove_file(snapshot.directory.join(shard).canonicalize().unwrap()).unwrap();
    let fault = hub.offline().fault("org/name");
    assert!(fault.message.contains("only in part") && fault.expected.unwrap() == shard);
    hub.server.requests();
    assert_eq!(hub.load(&format!("org/name@{commit}")).unwrap(), snapshot);
    assert_eq!(ranges(&hub), [None]);
    assert!(hub.offline().load("org/name").is_ok());

    // Only pickles in the cache, as old versions of transformers leave them.
    let directory = hub.cache().join("models--org--old/snapshots").join(&commit);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.json"), "{}").unwrap();
    std::fs::write(directory.join("pytorch_model.bin"), "x").unwrap();
    assert!(hub.offline().fault(&format!("org/old@{commit}")).got.unwrap().contains("pickled"));
    assert!(hub.offline().fault("org/none").message.contains("not in the cache"));
}

#[test]
fn a_cache_that_cannot_be_written() {
    let mut hub = TestHub::with(&files());
    let file = hub.dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    hub.settings.cache = file.join("hub");
    assert!(hub.fault("org/name").message.contains("cannot be written"));
}
