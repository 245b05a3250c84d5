//! Loading from a hub on this machine: what is fetched, what is asked, and what is asked of whom.

mod common;

use common::{Place, file_names, files, sharded};
use lopper_hub::HubId;
use lopper_testkit::hub::{Side, Trick};
use serde_json::json;

#[test]
fn a_model_and_nothing_else() {
    let place = Place::new();
    let mut repository = files();
    repository.extend([
        ("chat_template.jinja", b"{{ x }}".to_vec()),
        ("additional_chat_templates/tools.jinja", b"{{ y }}".to_vec()),
        ("LICENSE", b"free".to_vec()),
        ("pytorch_model.bin", b"a pickle".to_vec()),
        ("modeling.py", b"import os".to_vec()),
        ("onnx/model.onnx", b"x".to_vec()),
        (".gitattributes", b"x".to_vec()),
    ]);
    let commit = place.server.publish("org/name", &repository);
    let snapshot = place.load("org/name").unwrap();
    assert_eq!(snapshot.name(), format!("org/name@{commit}"));
    assert_eq!(
        file_names(&snapshot.directory),
        [
            "LICENSE",
            "README.md",
            "additional_chat_templates/tools.jinja",
            "chat_template.jinja",
            "config.json",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
    for (name, contents) in &repository {
        if let Ok(found) = std::fs::read(snapshot.directory.join(name)) {
            assert_eq!(found, *contents, "{name}");
        }
    }
    let reference = place.cache().join("models--org--name/refs/main");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), commit);
}

#[test]
fn the_second_time_asks_for_the_commit_only_and_offline_for_nothing() {
    let place = Place::new();
    place.server.publish("org/name", &sharded());
    let first = place.load("org/name").unwrap();
    assert!(place.server.requests().len() > 8);
    assert_eq!(place.load("org/name").unwrap(), first);
    let asked = place.server.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path, "/api/models/org/name/revision/main?blobs=true");
    // A commit names one state for ever.
    assert_eq!(place.load(&first.name()).unwrap(), first);
    assert_eq!(place.offline().load("org/name").unwrap(), first);
    assert!(place.server.requests().is_empty());
}

#[test]
fn revisions_are_pinned() {
    let place = Place::new();
    let old = place.server.publish("org/name", &files());
    let mut changed = files();
    changed.iter_mut().find(|(name, _)| *name == "README.md").unwrap().1 = b"newer".to_vec();
    let new = place.server.publish("org/name", &changed);
    place.server.branch("org/name", "refs/pr/1", &old);
    assert_eq!(place.load("org/name").unwrap().commit, new);
    place.server.requests();
    assert_eq!(place.load(&format!("org/name@{old}")).unwrap().commit, old);
    // Contents that both have are not fetched again.
    let fetched: Vec<_> = place.server.requests().into_iter().filter(|r| r.method == "GET").map(|r| r.path).collect();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    assert!(fetched[0].starts_with("/api/") && fetched[1].ends_with("README.md"), "{fetched:?}");

    assert_eq!(place.load("org/name@refs/pr/1").unwrap().commit, old);
    assert!(place.server.requests()[0].path.contains("/revision/refs%2Fpr%2F1?"));
    for (revision, commit) in [("main", &new), ("refs/pr/1", &old), (old.as_str(), &old)] {
        assert_eq!(place.offline().load(&format!("org/name@{revision}")).unwrap().commit, *commit);
    }
    // The branch has moved: nothing but the hub knows.
    place.server.branch("org/name", "main", &old);
    assert_eq!(place.offline().load("org/name").unwrap().commit, new);
    assert_eq!(place.load("org/name").unwrap().commit, old);
    assert_eq!(place.offline().load("org/name").unwrap().commit, old);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut place = Place::new();
    place.settings.token = Some("hf_secret".to_owned());
    place.server.publish("org/name", &sharded());
    place.load("org/name").unwrap();
    let requests = place.server.requests();
    let (hub, store): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.side == Side::Hub);
    assert!(store.len() >= 2 && hub.len() > store.len());
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
    assert!(store.iter().all(|request| request.authorization.is_none()), "{store:?}");
}

#[test]
fn redirects_within_the_hub_are_followed_with_the_token() {
    let mut place = Place::new();
    place.settings.token = Some("hf_secret".to_owned());
    let commit = place.server.publish("new/name", &files());
    // A renamed model: the hub redirects from the old address.
    place.server.trick(
        "/api/models/old/name/",
        Trick::Status(307, vec![("Location", "/api/models/new/name/revision/main?blobs=true")]),
        9,
    );
    for name in ["config.json", "README.md", "tokenizer.json", "model.safetensors"] {
        let location = format!("/new/name/resolve/{commit}/{name}").leak();
        place.server.trick(
            &format!("/old/name/resolve/{commit}/{name}"),
            Trick::Status(307, vec![("Location", location)]),
            9,
        );
    }
    let snapshot = place.load("old/name").unwrap();
    assert_eq!((snapshot.id.as_str(), &snapshot.commit), ("old/name", &commit));
    let requests = place.server.requests();
    let hub = requests.iter().filter(|request| request.side == Side::Hub);
    assert!(hub.clone().any(|request| request.path.starts_with("/new/name/")));
    assert!(hub.clone().all(|request| request.authorization.is_some()));
}

#[test]
fn shards_come_by_the_index() {
    let place = Place::new();
    let mut repository = sharded();
    repository.push(("consolidated.safetensors", b"the same again".to_vec()));
    place.server.publish("org/name", &repository);
    let names = file_names(&place.load("org/name").unwrap().directory);
    assert!(names.contains(&"model-00002-of-00002.safetensors".to_owned()));
    assert!(!names.contains(&"consolidated.safetensors".to_owned()));
}

#[test]
fn weights_come_last_and_only_for_a_model_that_is_accepted() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    let model = HubId::parse("org/name").unwrap().unwrap();
    let refuse = |directory: &std::path::Path| {
        assert!(directory.join("tokenizer.json").is_file() && !directory.join("model.safetensors").exists());
        anyhow::bail!("not this one")
    };
    let error = lopper_hub::fetch(&model, &place.settings, &refuse, &lopper_hub::Silent).unwrap_err();
    assert_eq!(error.to_string(), "not this one");
    assert!(place.server.requests().iter().all(|request| request.side == Side::Hub));
    // Not finished, so not known under its branch.
    assert!(place.offline().fault("org/name").message.contains("not in the cache"));
}

#[test]
fn progress_counts_every_byte_once() {
    let place = Place::new();
    let repository = sharded();
    place.server.publish("org/name", &repository);
    let seen = place.watched("org/name");
    let all: u64 = repository.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(seen.begun.iter().map(|(_, bytes)| bytes).sum::<u64>(), all);
    assert_eq!(seen.begun.iter().map(|(files, _)| files).sum::<usize>(), repository.len());
    assert_eq!(seen.last_of_all, seen.begun[1].1);
    assert!(seen.never_back);
}

#[test]
fn without_a_network_the_cache_stands_in() {
    let place = Place::new();
    let commit = place.server.publish("org/name", &files());
    place.load("org/name").unwrap();
    for code in [500, 503, 429] {
        place.server.trick("/api/", Trick::Status(code, vec![]), 9);
        let seen = place.watched("org/name");
        assert!(seen.warnings.iter().any(|text| text.contains(&commit)), "{code}: {:?}", seen.warnings);
        place.server.behave();
    }
    let mut away = place;
    away.settings.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(away.load("org/name").unwrap().commit, commit);
    // What is not there cannot stand in.
    let fault = away.fault("org/other");
    assert!(fault.message.contains("cannot be reached") && fault.hint.unwrap().contains("--offline"));
}

#[test]
fn a_listing_without_hashes_is_enough() {
    let place = Place::new();
    place.server.publish("org/name", &files());
    let siblings: Vec<_> = files().iter().map(|(name, _)| json!({"rfilename": name})).collect();
    place.server.set_listing("org/name", "siblings", json!(siblings));
    let snapshot = place.load("org/name").unwrap();
    assert_eq!(std::fs::read(snapshot.directory.join("README.md")).unwrap(), b"# A model");
}
