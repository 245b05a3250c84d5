//! Rows of data sets of the hub, from a server on this machine to what the commands that ask tasks say.

mod common;

use std::path::Path;

use common::Printed;
use common::hub::{Hub, refusal};
use lopper_testkit::hub::{Logged, Side, Trick};
use lopper_testkit::tasks::STAMPS;

const EVAL: [&str; 5] = ["eval", "model", "--tasks", "./stamps.toml", "--json"];

fn task() -> String {
    STAMPS.replace("\"own/stamps\"\n", "\"own/stamps\"\nconfig = \"main\"\n")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks").join(name)).unwrap()
}

/// A task's file in the workplace, and its rows on the hub as Parquet.
fn hub() -> Hub {
    Hub::new(|place, server| {
        place.write("stamps.toml", &task());
        server.publish_rows(
            "own/stamps",
            &[
                (".gitattributes", b"x".to_vec()),
                ("main/test/0000.parquet", fixture("rows.parquet")),
                ("main/train/0000.parquet", fixture("rows.parquet")),
                ("main/train/0001.parquet", fixture("rows_zstd.parquet")),
                ("other/test/0000.parquet", fixture("rows_zstd.parquet")),
            ],
        )
    })
}

/// What the program says of a fault: both ways out are in its hint.
fn refused(hub: &Hub, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let message = refusal(2, hub.command(arguments).envs(variables.iter().copied()));
    let hint = message.split("hint: ").nth(1).unwrap_or_default();
    assert!(hint.contains("; or name a directory that holds own/stamps/main/test.parquet"), "{message}");
    assert!(hint.contains("with --data-root DIR"), "{message}");
    message
}

fn with<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&EVAL[..], rest].concat()
}

#[test]
fn rows_of_the_hub_are_the_rows() {
    let hub = hub();
    std::fs::create_dir_all(hub.place.path("data/own/stamps/main")).unwrap();
    std::fs::write(hub.place.path("data/own/stamps/main/test.parquet"), fixture("rows.parquet")).unwrap();
    let local = hub.json(&with(&["--data-root", "data"]))["tasks"]["stamps"].clone();
    assert_eq!(local["source"].get("revision"), None);
    assert!(hub.server.requests().is_empty(), "the data root goes first");

    let found = hub.json(&EVAL)["tasks"]["stamps"].clone();
    assert_eq!((&found["metrics"], &found["n"]), (&local["metrics"], &local["n"]));
    assert_eq!(found["source"]["revision"], hub.commit.as_str());
    assert_eq!(found["source"]["split"], "test");
    let file = found["source"]["file"].as_str().unwrap();
    assert!(
        file.ends_with(&format!("datasets--own--stamps/snapshots/{}/main/test/0000.parquet", hub.commit)),
        "{file}"
    );
    // One file of five, and the token to nobody but the hub.
    let requests = hub.server.requests();
    let paths: Vec<&str> = requests.iter().filter(|r| r.side == Side::Hub).map(|r| r.path.as_str()).collect();
    let resolve = format!("/datasets/own/stamps/resolve/{}/main/test/0000.parquet", hub.commit);
    let listing = "/api/datasets/own/stamps/revision/refs%2Fconvert%2Fparquet?blobs=true";
    assert_eq!(paths, [listing, &resolve, &resolve]);
    assert!(requests.iter().all(|request: &Logged| request.authorization.is_some() == (request.side == Side::Hub)));

    // Worked examples come from their split, in two pieces; the hub is asked once what there is.
    let shots = with(&["--shots", "9", "--limit", "2", "--truncate-questions"]);
    let two = hub.json(&shots);
    assert_eq!(two["tasks"]["stamps"]["shots"], 9);
    let requests = hub.server.requests();
    assert_eq!(requests.iter().filter(|request| request.path.starts_with("/api/")).count(), 1);
    // The first piece has the contents of the other split, which are there.
    assert_eq!(requests.iter().filter(|request| request.side == Side::Store).count(), 1);
    // Known from now on, also without the hub.
    assert_eq!(hub.json(&shots), two);
    assert_eq!(hub.server.requests().len(), 1);
    assert_eq!(hub.json(&[&shots[..], &["--offline"]].concat()), two);
    let offline = hub.command(&shots).env("HF_HUB_OFFLINE", "1").assert().success();
    assert_eq!(Printed::of(&offline).json(), two);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn what_the_data_root_lacks_comes_from_the_hub() {
    let hub = hub();
    std::fs::create_dir_all(hub.place.path("data/own/stamps/main")).unwrap();
    std::fs::write(hub.place.path("data/own/stamps/main/train.parquet"), fixture("rows.parquet")).unwrap();
    let shots = with(&["--shots", "1"]);
    let found = Printed::of(&hub.command(&shots).env("LOPPER_DATA_ROOT", "data").assert().success()).json();
    assert_eq!(found["tasks"]["stamps"]["source"]["revision"], hub.commit.as_str());
    assert_eq!(hub.fetched(), 1, "the worked examples are in the data root");
    // A fault says where has been looked.
    let mut offline = hub.command(&with(&["--data-root", "data", "--shots", "1", "--offline"]));
    let message = refusal(2, offline.env("HF_HOME", hub.place.path("empty")));
    assert!(message.contains("not in the cache") && message.contains("into the data root, data"), "{message}");
}

#[test]
fn every_command_that_asks_tasks_finds_them() {
    let hub = hub();
    let ask = |rest: &[&str]| hub.json(&[rest, &["--tasks", "./stamps.toml", "--limit", "4", "--json"]].concat());
    assert!(ask(&["ablate", "model", "--split", "all"])["layers"].is_array());
    assert_eq!(hub.fetched(), 1);
    assert!(ask(&["search", "model", "--remove", "1", "--split", "all", "-o", "s"]).is_object());
    assert!(ask(&["diagnose", "model"])["uncut"].is_object());
    assert_eq!(hub.fetched(), 0);
    hub.server.publish_rows("EleutherAI/arithmetic", &[("sums/validation/0000.parquet", fixture("sums.parquet"))]);
    let found = hub.json(&["diagnose", "model", "--arithmetic", "sums", "--limit", "8", "--json"]);
    let arithmetic = &found["uncut"]["diagnosis"]["arithmetic"];
    assert_eq!(arithmetic["accuracy"]["n"], 4, "three of seven rows are worked examples: {arithmetic}");
}

#[test]
fn faults_name_both_ways_out() {
    let hub = hub();
    let message = refused(&hub, &[], &with(&["--offline"]));
    assert!(message.contains("not in the cache") && message.contains("run it once without --offline"), "{message}");
    let message = refused(&hub, &[("HF_HUB_OFFLINE", "1")], &EVAL);
    assert!(message.contains("not in the cache"), "{message}");
    let message = refused(&hub, &[("HF_ENDPOINT", "http://127.0.0.1:9")], &EVAL);
    assert!(message.contains("cannot be reached") && message.contains("check the network"), "{message}");
    for code in [401, 403] {
        hub.server.trick("/api/", Trick::Status(code, vec![("X-Error-Code", "GatedRepo")]), 1);
        let message = refused(&hub, &[], &EVAL);
        assert!(message.contains("gated") && message.contains("request access at"), "{message}");
    }
    hub.server.trick("/api/", Trick::Status(404, vec![("X-Error-Code", "RevisionNotFound")]), 1);
    assert!(refused(&hub, &[], &EVAL).contains("no Parquet files of own/stamps"));
    hub.place.write("stamps.toml", &task().replace("[\"test\", \"validation\"]", "[\"test\"]").replace("main", "mian"));
    let message = hub.refused(2, &EVAL);
    assert!(message.contains("no split `test`") && message.contains("`main`, `other`"), "{message}");
    hub.place.write("stamps.toml", &task().replace("own/stamps", "own/absent"));
    let message = hub.refused(2, &EVAL);
    assert!(message.contains("no data set own/absent on the hub") && message.contains("--data-root DIR"), "{message}");
    // The hub's failing is not the user's fault.
    hub.place.write("stamps.toml", &task());
    hub.server.trick("/api/", Trick::Status(500, vec![]), 9);
    hub.command(&EVAL).assert().code(1);
}

#[test]
fn damaged_rows_are_named() {
    let hub = hub();
    hub.server.publish_rows("own/stamps", &[("main/test/0000.parquet", b"PAR1 and nothing else".to_vec())]);
    let message = hub.refused(2, &EVAL);
    assert!(message.contains("cannot be read") && message.contains("main/test/0000.parquet"), "{message}");
}

#[test]
fn prompts_and_examples_come_from_a_data_set_by_its_name() {
    let hub = hub();
    let generate = |rest: &str| format!("generate model --max-new-tokens 2 {rest}");
    hub.run(&generate("--prompts own/stamps --config main --split test --limit 3 -o answers.jsonl"));
    let asked: Vec<String> =
        hub.place.read_lines("answers.jsonl").iter().map(|row| row["messages"][0]["content"].to_string()).collect();
    assert_eq!(asked, [0, 1, 2].map(|n| format!("\"Who has {n} stamps?\"")));
    assert_eq!(hub.fetched(), 1);

    // All pieces of the split `train`, and what they are goes into the record.
    let heal = "heal model --batch 4 --warmup 1 --deduplicate none --data own/stamps --config main --column question";
    let report = hub.json(&format!("{heal} --answer-column key -o healed --json"));
    assert_eq!((&report["examples"]["rows"], &report["examples"]["used"]), (&16.into(), &16.into()), "{report}");
    assert_eq!(report["data"], "own/stamps");
    let data_set = serde_json::json!({"config": "main", "split": "train", "revision": hub.commit});
    assert_eq!((&report["data_set"], &hub.place.read_json("healed/heal.json")["data_set"]), (&data_set, &data_set));
    // From the cache, with --offline.
    hub.server.requests();
    hub.run(&generate("--prompts own/stamps --config main --offline -o again.jsonl"));
    assert_eq!((hub.place.read_lines("again.jsonl").len(), hub.server.requests().len()), (16, 0));

    // A data set with one configuration needs no --config; the data root goes before the hub.
    hub.server.publish_rows("own/one", &[("only/train/0000.parquet", fixture("sums.parquet"))]);
    hub.run(&generate("--prompts own/one --column context -o one.jsonl"));
    assert_eq!(hub.place.read_lines("one.jsonl").len(), 7);
    let own = hub.place.path("root/own/one");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("train.jsonl"), "{\"prompt\": \"hi\"}\n").unwrap();
    hub.command(&generate("--prompts own/one -o root.jsonl")).env("LOPPER_DATA_ROOT", "root").assert().success();
    assert_eq!(hub.place.read_lines("root.jsonl").len(), 1);
    // Every command that takes prompts.
    let asked = hub.json("diagnose model --prompts own/one --column context --max-new-tokens 2 --json");
    assert_eq!(asked["uncut"]["diagnosis"]["degeneration"]["responses"], 7);
}

#[test]
fn a_data_set_or_column_that_is_not_there_is_named() {
    let hub = hub();
    let generate = |rest: &str| hub.refused(2, &format!("generate model -o answers.jsonl --prompts {rest}"));
    let message = generate("own/stamps");
    assert!(message.contains("`main`, `other`") && message.contains("--config and --split"), "{message}");
    let message = generate("own/stamps --config main --split dev");
    assert!(message.contains("no split `dev`") && message.contains("the splits `test`, `train`"), "{message}");
    assert!(generate("own/absent").contains("no data set own/absent on the hub"));
    let message = generate("own/stamps --config main --column text");
    assert!(message.contains("row 1: no column `text`, but `question`, `choices`, `key`, `number`"), "{message}");
    assert!(generate("own/stamps@v1 --config main").contains("newest state"));
    hub.place.write("rows.jsonl", "{\"prompt\": \"hi\"}\n");
    assert!(generate("rows.jsonl --split test").contains("--split belongs to data sets of the hub"));
    assert!(generate("pocket --column prompt").contains("--column belongs to rows"));
    let message = hub.refused(2, "heal model --data own/stamps --config other --split test -o healed");
    assert!(message.contains("row 1: no assistant message"), "{message}");
    let message = hub.refused(2, "diagnose rows.jsonl --column prompt");
    assert!(message.contains("--column belongs to a MODEL"), "{message}");
}
