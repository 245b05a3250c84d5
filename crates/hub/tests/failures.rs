//! What goes wrong: broken and damaged downloads, refusals, and servers that mean harm.

mod common;

use common::{Place, files, noise, sharded};
use lopper_hub::{HubId, Watch};
use lopper_testkit::hub::{Side, Trick};
use serde_json::json;

const WEIGHTS: &str = "model.safetensors";

fn weights_of(place: &Place, model: &str) -> Vec<u8> {
    std::fs::read(place.load(model).unwrap().directory.join(WEIGHTS)).unwrap()
}

/// The file that grows in the cache, and whether the blob has its name.
fn blobs(place: &Place) -> (Option<u64>, bool) {
    let entries: Vec<_> =
        place.cache().join("models--org--name/blobs").read_dir().unwrap().map(Result::unwrap).collect();
    let partial = entries.iter().find(|e| e.file_name().to_str().unwrap().ends_with(".incomplete"));
    let whole = entries.iter().any(|e| e.file_name().len() == 64);
    (partial.map(|e| e.metadata().unwrap().len()), whole)
}

/// The ranges asked of the store, since the last call.
fn ranges(place: &Place) -> Vec<Option<String>> {
    place.server.requests().into_iter().filter(|r| r.side == Side::Store).map(|r| r.range).collect()
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("?signature", Trick::CutAfter(400_000), 1);
    assert_eq!(weights_of(&place, "org/name"), noise(1 << 20, 1));
    assert_eq!(ranges(&place), [None, Some("bytes=400000-".to_owned())]);
}

#[test]
fn a_download_that_broke_off_goes_on_the_next_time() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("?signature", Trick::CutAfter(100_000), 99);
    let message = place.failure("org/name");
    assert!(message.contains("broke off") && message.contains("goes on from there"), "{message}");
    // Every try brought 100,000 bytes more; nothing looks finished.
    assert_eq!(blobs(&place), (Some(400_000), false));
    assert!(place.offline().fault("org/name").message.contains("not in the cache"));
    ranges(&place);

    place.server.behave();
    assert_eq!(weights_of(&place, "org/name"), noise(1 << 20, 1));
    assert_eq!(ranges(&place), [Some("bytes=400000-".to_owned())]);
    assert_eq!(blobs(&place), (None, true));
}

#[test]
fn one_who_stops_it_finds_what_was_there() {
    struct Stop(std::cell::Cell<u64>);
    impl Watch for Stop {
        fn check(&self) -> anyhow::Result<()> {
            anyhow::ensure!(self.0.get() < 300_000, "stopped");
            Ok(())
        }
        fn at(&self, of_file: u64, _: u64) {
            self.0.set(of_file);
        }
    }
    let place = Place::new();
    place.server.publish("org/name", &files());
    let model = HubId::parse("org/name").unwrap().unwrap();
    let stopped = lopper_hub::fetch(&model, &place.settings, &|_| Ok(()), &Stop(0.into())).unwrap_err();
    assert_eq!(stopped.to_string(), "stopped");
    let (partial, whole) = blobs(&place);
    assert!(partial.unwrap() >= 300_000 && !whole);
    ranges(&place);
    assert_eq!(weights_of(&place, "org/name"), noise(1 << 20, 1));
    assert_eq!(ranges(&place), [Some(format!("bytes={}-", partial.unwrap()))]);
}

#[test]
fn a_server_that_cannot_continue_begins_again() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("?signature", Trick::CutAfter(400_000), 1);
    place.server.trick("?signature", Trick::NoRange, 9);
    assert_eq!(weights_of(&place, "org/name"), noise(1 << 20, 1));
}

#[test]
fn damage_is_found_by_the_hash() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    let mut damaged = noise(1 << 20, 1);
    damaged[777] ^= 1;
    place.server.trick("?signature", Trick::Body(damaged.clone()), 9);
    assert!(place.failure("org/name").contains("arrived damaged"));
    assert_eq!(blobs(&place), (None, false));

    // A small file too, which has a hash of git's.
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/README.md", Trick::Body(b"# A mudel".to_vec()), 9);
    assert!(place.failure("org/name").contains("README.md of org/name arrived damaged"));

    // What an earlier download left may be the damaged part: once more from the beginning.
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("?signature", Trick::CutAfter(100_000), 99);
    place.failure("org/name");
    place.server.behave();
    let directory = place.cache().join("models--org--name/blobs");
    let partial = directory.read_dir().unwrap().map(|e| e.unwrap().path());
    let partial = partial.into_iter().find(|path| path.to_str().unwrap().ends_with(".incomplete")).unwrap();
    std::fs::write(&partial, &damaged[..100_000]).unwrap();
    assert_eq!(weights_of(&place, "org/name"), noise(1 << 20, 1));
}

#[test]
fn sizes_that_contradict_each_other() {
    let size = |value: &str| Trick::Headers(vec![("X-Linked-Size", value.to_owned())]);
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/model.safetensors", size("7"), 9);
    assert!(place.failure("org/name").contains("1048576 by the listing"));

    // The listing does not tell, and the store sends more, or less, than the headers said.
    let unlisted = || {
        let place = Place::new();
        place.server.publish("org/name", &files());
        let siblings: Vec<_> = files().iter().map(|(name, _)| json!({"rfilename": name})).collect();
        place.server.set_listing("org/name", "siblings", json!(siblings));
        place
    };
    let place = unlisted();
    place.server.trick("/model.safetensors", size("1000"), 9);
    assert!(place.failure("org/name").contains("more than the 1000 bytes"));
    assert!(!blobs(&place).1);
    let place = unlisted();
    place.server.trick("/model.safetensors", size("2000000"), 9);
    let message = place.failure("org/name");
    assert!(message.contains("of 2000000 bytes") || message.contains("status 416"), "{message}");
    assert!(!blobs(&place).1);
}

#[test]
fn a_disk_that_is_too_small() {
    let place = Place::new();
    let commit = place.server.publish("org/name", &files());
    let huge = u64::MAX / 2;
    place.server.set_listing(
        "org/name",
        "siblings",
        json!([{"rfilename": "config.json"}, {"rfilename": WEIGHTS, "size": huge, "lfs": {"sha256": "a".repeat(64), "size": huge}}]),
    );
    place.server.trick("/model.safetensors", Trick::Headers(vec![("X-Linked-Size", huge.to_string())]), 9);
    let fault = place.fault("org/name");
    assert!(fault.message.contains("not enough room") && fault.hint.unwrap().contains("HF_HUB_CACHE"));
    assert!(place.server.requests().iter().all(|request| request.side == Side::Hub), "nothing was downloaded");
    assert!(place.offline().fault(&format!("org/name@{commit}")).message.contains("only in part"));
}

#[test]
fn refusals_say_what_to_do() {
    let api = |code, headers: &[(&'static str, &'static str)]| {
        let place = Place::new();
        place.server.publish("org/name", &files());
        place.server.trick("/api/", Trick::Status(code, headers.to_vec()), 9);
        place.fault("org/name")
    };
    let absent = Place::new().fault("org/absent");
    assert!(absent.message.contains("no model org/absent") && absent.hint.unwrap().contains("HF_TOKEN"));
    assert!(api(404, &[]).message.contains("no model"));
    assert!(api(401, &[]).message.contains("private"));
    let token = api(401, &[("X-Error-Message", "Invalid credentials in Authorization header")]);
    assert!(token.message.contains("does not know the access token"));
    assert!(api(403, &[]).message.contains("no access"));
    let gated = api(403, &[("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Access to model is restricted")]);
    assert!(gated.hint.unwrap().contains("ask for access at http://") && gated.got.unwrap().contains("is restricted"));
    let revision = api(404, &[("X-Error-Code", "RevisionNotFound")]);
    assert!(revision.message.contains("no revision `main`"));
    let limit = api(429, &[("Retry-After", "30")]);
    assert!(limit.hint.unwrap().contains("in 30 s; with a token"));

    let place = Place::new();
    place.server.publish("org/name", &files());
    assert!(place.fault("org/name@v9").message.contains("no revision `v9`"));
    // Gated repositories list their files to everybody, and give them to some.
    place.server.trick("/resolve/", Trick::Status(401, vec![("X-Error-Code", "GatedRepo")]), 99);
    assert!(place.fault("org/name").message.contains("has to be granted"));
}

#[test]
fn servers_that_fail_are_asked_again_and_not_blamed_on_the_user() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/api/", Trick::Status(503, vec![]), 2);
    place.load("org/name").unwrap();
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/api/", Trick::Status(500, vec![]), 99);
    assert!(place.failure("org/name").contains("the hub failed at org/name: status 500"));
    assert_eq!(place.server.requests().len(), 3);
    place.server.behave();
    place.server.trick("?signature", Trick::Status(403, vec![]), 99);
    assert!(place.failure("org/name").contains("the store of the hub's files does not give"));
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
        let place = Place::new();
        let mut repository = sharded();
        let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        repository.retain(|(name, _)| !name.ends_with("index.json"));
        repository.push(("model.safetensors.index.json", index.into_bytes()));
        place.server.publish("org/name", &repository);
        place.server.also_list("org/name", json!({"rfilename": name}));
        let fault = place.fault("org/name");
        assert!(fault.message.contains("not a file of the repository"), "{name}: {fault}");
        assert!(place.server.requests().iter().all(|request| request.side == Side::Hub), "{name}");
        place.nothing_outside();
    }
}

#[test]
fn a_listing_that_reaches_outside() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    for name in
        ["../../../../README.md", "/etc/README.md", "additional_chat_templates/../../../x.jinja", "LICENSE/../../x"]
    {
        place.server.also_list("org/name", json!({"rfilename": name, "size": 3}));
    }
    place.load("org/name").unwrap();
    place.nothing_outside();
    for sha in [json!("../../outside"), json!("main"), json!(null), json!("A".repeat(40))] {
        place.server.set_listing("org/name", "sha", sha);
        assert!(place.failure("org/name").contains("without a commit"));
    }
}

#[test]
fn etags_and_commits_that_reach_outside() {
    for etag in ["../../../../outside", "a/b", "", ".x", "x.incomplete", "a b"] {
        let place = Place::new();
        place.server.publish("org/name", &files());
        let headers = vec![("X-Linked-Etag", format!("\"{etag}\""))];
        place.server.trick("/model.safetensors", Trick::Headers(headers), 9);
        assert!(place.failure("org/name").contains("no usable ETag"), "{etag}");
        place.nothing_outside();
    }
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/model.safetensors", Trick::Headers(vec![("X-Repo-Commit", "b".repeat(40))]), 9);
    assert!(place.failure("org/name").contains("another commit"));
}

#[test]
fn redirects_that_lead_astray() {
    for location in ["file:///etc/passwd", "http://", "gopher://127.0.0.1/x", "\u{7f}"] {
        let place = Place::new();
        place.server.publish("org/name", &files());
        place.server.trick("/README.md", Trick::Status(302, vec![("Location", location)]), 9);
        place.failure("org/name");
    }
    let place = Place::new();
    place.server.publish("org/name", &files());
    place.server.trick("/api/", Trick::Status(302, vec![("Location", "/api/models/org/name/revision/main")]), 99);
    assert!(place.failure("org/name").contains("redirects"));
}

#[test]
fn weights_that_are_not_safetensors() {
    let place = Place::new();
    let mut repository = files();
    repository.retain(|(name, _)| *name != WEIGHTS);
    repository.push(("pytorch_model.bin", b"a pickle".to_vec()));
    place.server.publish("org/name", &repository);
    let fault = place.fault("org/name");
    assert!(fault.got.unwrap().contains("pytorch_model.bin") && fault.hint.unwrap().contains("any code"));
    assert_eq!(place.server.requests().len(), 1, "nothing was fetched");
}

#[test]
fn a_shard_that_is_not_there() {
    let place = Place::new();
    let mut repository = sharded();
    repository.retain(|(name, _)| !name.starts_with("model-00002"));
    place.server.publish("org/name", &repository);
    let fault = place.fault("org/name");
    assert!(fault.message.contains("shard") && fault.got.unwrap().contains("model-00002-of-00002"));

    // Listed, and not there.
    place.server.also_list("org/name", json!({"rfilename": "model-00002-of-00002.safetensors"}));
    assert!(
        place.failure("org/name").contains("lists model-00002-of-00002.safetensors of org/name and does not have it")
    );
}

#[test]
fn a_cache_that_lost_a_part() {
    let place = Place::new();
    let commit = place.server.publish("org/name", &sharded());
    let snapshot = place.load("org/name").unwrap();
    let shard = "model-00002-of-00002.safetensors";
    // The blob is gone and its link dangles.
    std::fs::remove_file(snapshot.directory.join(shard).canonicalize().unwrap()).unwrap();
    let fault = place.offline().fault("org/name");
    assert!(fault.message.contains("only in part") && fault.expected.unwrap() == shard);
    place.server.requests();
    assert_eq!(place.load(&format!("org/name@{commit}")).unwrap(), snapshot);
    assert_eq!(ranges(&place), [None]);
    assert!(place.offline().load("org/name").is_ok());

    // Only pickles in the cache, as old Python programs leave them.
    let directory = place.cache().join("models--org--old/snapshots").join(&commit);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.json"), "{}").unwrap();
    std::fs::write(directory.join("pytorch_model.bin"), "x").unwrap();
    assert!(place.offline().fault(&format!("org/old@{commit}")).got.unwrap().contains("pickled"));
    assert!(place.offline().fault("org/none").message.contains("not in the cache"));
}

#[test]
fn a_cache_that_cannot_be_written() {
    let mut place = Place::new();
    place.server.publish("org/name", &files());
    let file = place.dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    place.settings.cache = file.join("hub");
    assert!(place.fault("org/name").message.contains("cannot be written"));
}
