//! Models of the hub, from a server on this machine to what the program prints.

mod common;

use std::path::Path;

use common::hub::{Hub, refusal};
use lopper_testkit::hub::{HubServer, Side, Trick};

/// The tiny model of five layers in `model` and on the hub as `org/tiny`.
fn hub() -> Hub {
    Hub::new(|place, server| {
        place.write("ids.json", "[[1, 20, 300, 40], [7, 8]]");
        place.write("model/LICENSE", "as you like");
        publish(&place.model(), server)
    })
}

fn publish(directory: &Path, server: &HubServer) -> String {
    let paths = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    server.publish("org/tiny", &files)
}

#[test]
fn a_model_of_the_hub_is_the_model() {
    let hub = hub();
    let name = format!("org/tiny@{}", hub.commit);
    let local = hub.json(&["inspect", "model", "--hash", "--json"]);
    let mut fetched = hub.json(&["inspect", "org/tiny", "--hash", "--json"]);
    assert_eq!(fetched["model"], name.as_str());
    fetched["model"] = local["model"].clone();
    assert_eq!(fetched, local);
    let requests = hub.server.requests();
    assert!(requests.iter().filter(|r| r.side == Side::Hub).all(|r| r.authorization.is_some()));
    assert!(requests.iter().filter(|r| r.side == Side::Store).all(|r| r.authorization.is_none()));

    let logprobs = |model: &str| hub.json(&format!("logprobs {model} --json --drop 1 --tokens ids.json"));
    assert_eq!(logprobs("org/tiny"), logprobs("model"));
    hub.server.requests();
    // From the cache, by the flag, by the variable, and by the commit.
    hub.json(&["inspect", "org/tiny", "--offline", "--json"]);
    hub.command(&["inspect", "org/tiny"]).env("HF_HUB_OFFLINE", "1").assert().success();
    hub.json(&["inspect", &name, "--json"]);
    hub.json(&["inspect", "org/tiny", "--revision", &hub.commit, "--json"]);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn cuts_and_adapters_say_what_they_were_made_from() {
    let hub = hub();
    let name = format!("org/tiny@{}", hub.commit);
    hub.run(&["prune", "org/tiny", "--drop", "1", "-o", "cut"]);
    assert_eq!(hub.place.read_json("cut/cut.json")["source"]["id"], name.as_str());
    // Everything that came from the hub came along.
    for file in ["tokenizer.json", "chat_template.jinja", "LICENSE"] {
        assert_eq!(hub.place.read(&format!("cut/{file}")), hub.place.read(&format!("model/{file}")));
    }
    hub.place.write("data.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    hub.run(&["heal", "org/tiny", "--data", "data.jsonl", "-o", "adapter", "--warmup", "0"]);
    let config = hub.place.read_json("adapter/adapter_config.json");
    assert_eq!(config["base_model_name_or_path"], "org/tiny");
    assert_eq!(config["revision"], hub.commit.as_str());
}

#[test]
fn a_directory_wins_over_the_hub() {
    let hub = hub();
    std::fs::create_dir(hub.place.path("org")).unwrap();
    std::fs::rename(hub.place.model(), hub.place.path("org/tiny")).unwrap();
    let inspected = hub.json(&["inspect", "org/tiny", "--json"]);
    assert_eq!(inspected["model"], "org/tiny");
    assert!(hub.server.requests().is_empty());
    let message = hub.refused(2, &["inspect", "org/tiny", "--revision", "main"]);
    assert!(message.contains("on this machine"), "{message}");
    assert!(hub.refused(2, &["inspect", "pocket", "--revision", "main"]).contains("only models of the hub"));
    assert!(hub.refused(2, &["report", "x", "--revision", "main"]).contains("--revision"));
}

#[test]
fn exit_status_and_message_follow_whose_fault_it_is() {
    let hub = hub();
    let message = hub.refused(2, &["inspect", "org/tiny", "--offline"]);
    assert!(message.contains("is not in the cache") && message.contains("without --offline"), "{message}");
    let message = hub.refused(2, &["inspect", "org/absent"]);
    assert!(
        message.contains("no model org/absent on the hub") && message.contains("hint: check the spelling"),
        "{message}"
    );
    assert!(hub.refused(2, &["inspect", "org/tiny@v9"]).contains("no revision `v9`"));
    assert!(hub.refused(2, &["inspect", "org/tiny@a..b"]).contains("not a revision"));
    assert!(hub.refused(2, &["inspect", "org/tiny@v1", "--revision", "v2"]).contains("two revisions"));
    hub.server.trick("/api/", Trick::Status(500, vec![]), 9);
    assert!(hub.refused(1, &["inspect", "org/tiny"]).contains("the hub failed at org/tiny: status 500"));
    hub.server.behave();
    let message = refusal(2, hub.command("inspect org/tiny").env("HF_ENDPOINT", "http://127.0.0.1:9"));
    assert!(message.contains("the hub cannot be reached"), "{message}");
}

#[test]
fn weights_of_a_model_that_cannot_be_read_are_not_fetched() {
    let hub = hub();
    hub.place.set_config("model_type", "mamba".into());
    publish(&hub.place.model(), &hub.server);
    assert!(hub.refused(2, &["inspect", "org/tiny"]).contains("mamba"));
    assert!(hub.server.requests().iter().all(|request| request.side == Side::Hub));
}

/// A process that is killed while it downloads leaves nothing that looks finished.
#[cfg(unix)]
#[test]
fn a_killed_download_goes_on() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let hub = hub();
    // The connection stays open and says nothing after a part.
    hub.server.trick("?signature", Trick::StallAfter(20_000), 1);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("lopper"))
        .args(["inspect", "org/tiny"])
        .current_dir(hub.place.dir.path())
        .envs([("HF_HOME", hub.place.path("home"))])
        .envs([("HF_ENDPOINT", hub.server.endpoint()), ("NO_PROXY", "127.0.0.1".to_owned())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let blobs = hub.place.path("home/hub/models--org--tiny/blobs");
    let partial = || {
        let entries = blobs.read_dir().into_iter().flatten().flatten();
        let mut partial = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "incomplete"));
        partial.next().and_then(|entry| entry.metadata().ok()).map_or(0, |metadata| metadata.len())
    };
    let begun = Instant::now();
    while partial() < 20_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing arrives");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(hub.refused(2, &["inspect", "org/tiny", "--offline"]).contains("not in the cache"));
    hub.server.requests();
    assert_eq!(hub.json(&["inspect", "org/tiny", "--json"])["layers"], 5);
    let store: Vec<_> = hub.server.requests().into_iter().filter(|r| r.side == Side::Store).collect();
    assert_eq!(store.len(), 1);
    assert_eq!(store[0].range.as_deref(), Some("bytes=20000-"));
}
