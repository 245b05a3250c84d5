//! Loading from a hub on this machine: which files are downloaded, with which requests to whom.

mod common;

use common::{TestHub, file_names, files, sharded};
use lopper_hub::HubId;
use lopper_testkit::hub::{Side, Trick};

#[test]
fn a_model_and_nothing_else() {
    let hub = TestHub::new();
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
    let commit = hub.server.publish("org/name", &repository);
    let snapshot = hub.load("org/name").unwrap();
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
    let reference = hub.cache().join("models--org--name/refs/main");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), commit);
}

#[test]
fn the_second_load_requests_the_commit_only_and_offline_nothing() {
    let hub = TestHub::with(&sharded());
    let first = hub.load("org/name").unwrap();
    assert!(hub.server.requests().len() > 8);
    assert_eq!(hub.load("org/name").unwrap(), first);
    let requests = hub.server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].path, "/api/models/org/name/revision/main?blobs=true");
    // A commit never changes.
    assert_eq!(hub.load(&first.name()).unwrap(), first);
    assert_eq!(hub.offline().load("org/name").unwrap(), first);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn revisions_are_pinned() {
    let hub = TestHub::new();
    let old = hub.server.publish("org/name", &files());
    let mut changed = files();
    changed.iter_mut().find(|(name, _)| *name == "README.md").unwrap().1 = b"newer".to_vec();
    let new = hub.server.publish("org/name", &changed);
    hub.server.branch("org/name", "refs/pr/1", &old);
    assert_eq!(hub.load("org/name").unwrap().commit, new);
    hub.server.requests();
    assert_eq!(hub.load(&format!("org/name@{old}")).unwrap().commit, old);
    // Contents that both have are not downloaded again.
    let downloaded: Vec<_> = hub.server.requests().into_iter().filter(|r| r.method == "GET").map(|r| r.path).collect();
    assert_eq!(downloaded.len(), 2, "{downloaded:?}");
    assert!(downloaded[0].starts_with("/api/") && downloaded[1].ends_with("README.md"), "{downloaded:?}");

    assert_eq!(hub.load("org/name@refs/pr/1").unwrap().commit, old);
    assert!(hub.server.requests()[0].path.contains("/revision/refs%2Fpr%2F1?"));
    for (revision, commit) in [("main", &new), ("refs/pr/1", &old), (old.as_str(), &old)] {
        assert_eq!(hub.offline().load(&format!("org/name@{revision}")).unwrap().commit, *commit);
    }
    // The branch has moved, which the cache does not know.
    hub.server.branch("org/name", "main", &old);
    assert_eq!(hub.offline().load("org/name").unwrap().commit, new);
    assert_eq!(hub.load("org/name").unwrap().commit, old);
    assert_eq!(hub.offline().load("org/name").unwrap().commit, old);
}

#[test]
fn the_token_is_sent_to_the_hub_only() {
    let mut hub = TestHub::new();
    hub.settings.token = Some("hf_secret".to_owned());
    hub.server.publish("org/name", &sharded());
    hub.load("org/name").unwrap();
    let requests = hub.server.requests();
    let (at_hub, at_store): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.side == Side::Hub);
    assert!(at_store.len() >= 2 && at_hub.len() > at_store.len());
    assert!(at_hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{at_hub:?}");
    assert!(at_store.iter().all(|request| request.authorization.is_none()), "{at_store:?}");
}

#[test]
fn redirects_within_the_hub_are_followed_with_the_token() {
    let mut hub = TestHub::new();
    hub.settings.token = Some("hf_secret".to_owned());
    let commit = hub.server.publish("new/name", &files());
    // A renamed model: the hub redirects from the old address.
    hub.server.trick(
        "/api/models/old/name/",
        Trick::Status(307, vec![("Location", "/api/models/new/name/revision/main?blobs=true")]),
        9,
    );
    for name in ["config.json", "README.md", "tokenizer.json", "model.safetensors"] {
        let location = format!("/new/name/resolve/{commit}/{name}").leak();
        hub.server.trick(
            &format!("/old/name/resolve/{commit}/{name}"),
            Trick::Status(307, vec![("Location", location)]),
            9,
        );
    }
    let snapshot = hub.load("old/name").unwrap();
    assert_eq!((snapshot.id.as_str(), &snapshot.commit), ("old/name", &commit));
    let requests = hub.server.requests();
    let at_hub = requests.iter().filter(|request| request.side == Side::Hub);
    assert!(at_hub.clone().any(|request| request.path.starts_with("/new/name/")));
    assert!(at_hub.clone().all(|request| request.authorization.is_some()));
}

#[test]
fn shards_are_those_of_the_index() {
    let hub = TestHub::new();
    let mut repository = sharded();
    repository.push(("consolidated.safetensors", b"the same again".to_vec()));
    hub.server.publish("org/name", &repository);
    let names = file_names(&hub.load("org/name").unwrap().directory);
    assert!(names.contains(&"model-00002-of-00002.safetensors".to_owned()));
    assert!(!names.contains(&"consolidated.safetensors".to_owned()));
}

#[test]
fn weights_come_last_and_only_for_a_model_that_is_accepted() {
    let hub = TestHub::with(&files());
    let model = HubId::parse("org/name").unwrap().unwrap();
    let refuse = |directory: &std::path::Path| {
        assert!(directory.join("tokenizer.json").is_file() && !directory.join("model.safetensors").exists());
        lopper_record::bail!("not this one")
    };
    let error = lopper_hub::fetch(&model, &hub.settings, &refuse, &lopper_record::NoProgress).unwrap_err();
    assert_eq!(error.to_string(), "not this one");
    assert!(hub.server.requests().iter().all(|request| request.side == Side::Hub));
    // Not finished, so not known under its branch.
    assert!(hub.offline().fault("org/name").message.contains("not in the cache"));
}

#[test]
fn progress_counts_every_byte_once() {
    let hub = TestHub::new();
    let repository = sharded();
    hub.server.publish("org/name", &repository);
    let steps = hub.recorded("org/name").steps();
    // One step of side files, one of weights.
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.found == 0 && step.done == step.total && step.decreases == 0), "{steps:?}");
    let all: usize = repository.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(steps.iter().map(|step| step.total).sum::<usize>(), all);
    let names = steps.iter().flat_map(|step| &step.messages).map(|message| message.split(' ').next().unwrap());
    assert_eq!(names.collect::<std::collections::BTreeSet<_>>().len(), repository.len());
}

#[test]
fn without_a_network_the_cache_is_used() {
    let hub = TestHub::new();
    let commit = hub.server.publish("org/name", &files());
    hub.load("org/name").unwrap();
    for code in [500, 503, 429] {
        hub.server.trick("/api/", Trick::Status(code, vec![]), 9);
        let warnings = hub.recorded("org/name").warnings();
        assert!(warnings.iter().any(|text| text.contains(&commit)), "{code}: {warnings:?}");
        hub.server.behave();
    }
    let mut unreachable = hub;
    unreachable.settings.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(unreachable.load("org/name").unwrap().commit, commit);
    // A model that is not in the cache.
    let fault = unreachable.fault("org/other");
    assert!(fault.message.contains("cannot be reached") && fault.hint.unwrap().contains("--offline"));
}

#[test]
fn a_listing_without_hashes_is_enough() {
    let hub = TestHub::unlisted();
    let snapshot = hub.load("org/name").unwrap();
    assert_eq!(std::fs::read(snapshot.directory.join("README.md")).unwrap(), b"# A model");
}
