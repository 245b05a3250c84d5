//! Rows of data sets from a hub on this machine, with random bytes as Parquet files.

mod common;

use std::path::PathBuf;

use common::{Files, TestHub, fault, file_names, noise};
use lopper_hub::{DataSet, Settings, SplitFiles};
use lopper_record::{Fault, NoProgress, Progress, Result};
use lopper_testkit::RecordedProgress;
use lopper_testkit::hub::{Side, Trick};
use serde_json::json;

fn rows() -> Files {
    vec![
        (".gitattributes", b"x".to_vec()),
        ("main/test/0000.parquet", noise(300_000, 1)),
        ("main/train/0000.parquet", noise(200_000, 2)),
        ("main/train/0001.parquet", noise(100_000, 3)),
        ("socratic/test/0000.parquet", noise(1000, 4)),
        ("large/partial-train/0000.parquet", noise(1000, 5)),
    ]
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn split(
    settings: &Settings,
    configuration: &str,
    splits: &[&str],
    progress: &dyn Progress,
) -> Result<(String, SplitFiles)> {
    let set = DataSet::open("org/rows", settings, progress)?;
    let found = set.split(configuration, &names(splits), progress)?;
    Ok((set.commit().to_owned(), found))
}

fn load(settings: &Settings, splits: &[&str]) -> SplitFiles {
    split(settings, "main", splits, &NoProgress).unwrap().1
}

/// The fault of loading a split.
fn refused(settings: &Settings, configuration: &str, splits: &[&str]) -> Fault {
    fault(split(settings, configuration, splits, &NoProgress))
}

fn read(files: &[PathBuf]) -> Vec<u8> {
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn only_the_requested_split_is_downloaded() {
    let mut hub = TestHub::new();
    hub.settings.token = Some("hf_secret".to_owned());
    let commit = hub.server.publish_rows("org/rows", &rows());
    let (found_commit, found) = split(&hub.settings, "main", &["validation", "train", "test"], &NoProgress).unwrap();
    assert_eq!((found_commit, found.split.as_str()), (commit.clone(), "train"));
    assert_eq!(read(&found.files), [noise(200_000, 2), noise(100_000, 3)].concat());
    let cache = hub.cache().join("datasets--org--rows");
    assert_eq!(
        file_names(&cache.join("snapshots")),
        [format!("{commit}/main/train/0000.parquet"), format!("{commit}/main/train/0001.parquet")]
    );
    assert_eq!(std::fs::read_to_string(cache.join("refs/refs/convert/parquet")).unwrap(), commit);
    // The same addresses as huggingface_hub's.
    let requests = hub.server.requests();
    assert_eq!(requests[0].path, "/api/datasets/org/rows/revision/refs%2Fconvert%2Fparquet?blobs=true");
    assert_eq!(requests[1].path, format!("/datasets/org/rows/resolve/{commit}/main/train/0000.parquet"));
    let (at_hub, at_store): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.side == Side::Hub);
    assert!(at_store.len() == 2 && at_store.iter().all(|request| request.authorization.is_none()));
    assert!(at_hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn cached_files_are_not_downloaded_again() {
    let hub = TestHub::new();
    hub.server.publish_rows("org/rows", &rows());
    let set = DataSet::open("org/rows", &hub.settings, &NoProgress).unwrap();
    let first = set.split("main", &names(&["test"]), &NoProgress).unwrap();
    set.split("socratic", &names(&["test"]), &NoProgress).unwrap();
    // One request for the listing.
    assert_eq!(hub.server.requests().iter().filter(|request| request.path.starts_with("/api/")).count(), 1);
    assert_eq!(load(&hub.settings, &["test"]), first);
    assert_eq!(hub.server.requests().len(), 1);
    assert_eq!(load(&hub.offline().0, &["test"]), first);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn without_the_hub_a_split_is_complete_or_refused() {
    let hub = TestHub::new();
    let offline = hub.offline().0;
    assert!(refused(&offline, "main", &["test"]).message.contains("not in the cache"));
    let commit = hub.server.publish_rows("org/rows", &rows());
    load(&hub.settings, &["train"]);
    // The first choice exists and is not cached; the second must not replace it.
    let part = refused(&offline, "main", &["test", "train"]);
    assert!(part.message.contains("only in part") && part.expected.unwrap() == "main/test/0000.parquet");
    let second = hub.cache().join(format!("datasets--org--rows/snapshots/{commit}/main/train/0001.parquet"));
    std::fs::remove_file(&second).unwrap();
    let part = refused(&offline, "main", &["train"]);
    assert_eq!(part.expected.unwrap(), "main/train/0001.parquet");
    assert!(part.hint.unwrap().contains("--offline"));
    // The next load repairs it without downloading what is there.
    hub.server.requests();
    load(&hub.settings, &["train"]);
    assert!(hub.server.requests().iter().all(|request| request.side == Side::Hub), "the blob was there");
    // Without the listing, a warning.
    let recorder = RecordedProgress::default();
    std::fs::remove_dir_all(hub.cache().join("datasets--org--rows/trees")).unwrap();
    assert_eq!(split(&offline, "main", &["train"], &recorder).unwrap().1.files.len(), 2);
    assert!(recorder.warnings()[0].contains("has no listing"), "{:?}", recorder.warnings());
    std::fs::remove_file(second.with_file_name("0000.parquet")).unwrap();
    assert!(refused(&offline, "main", &["train"]).message.contains("only in part"));
    assert!(refused(&offline, "other", &["train"]).message.contains("only in part"));
}

#[test]
fn without_a_network_the_cache_is_used() {
    let mut hub = TestHub::new();
    let commit = hub.server.publish_rows("org/rows", &rows());
    load(&hub.settings, &["test"]);
    for code in [500, 503, 429] {
        hub.server.trick("/api/", Trick::Status(code, vec![]), 9);
        let recorder = RecordedProgress::default();
        split(&hub.settings, "main", &["test"], &recorder).unwrap();
        assert!(recorder.warnings()[0].contains(&commit), "{code}: {:?}", recorder.warnings());
        hub.server.behave();
    }
    hub.settings.endpoint = "http://127.0.0.1:9".to_owned();
    load(&hub.settings, &["test"]);
    assert!(refused(&hub.settings, "main", &["train"]).message.contains("only in part"));
    hub.settings.cache = hub.dir.path().join("cache/empty");
    assert!(refused(&hub.settings, "main", &["test"]).message.contains("cannot be reached"));
}

#[test]
fn refusals_say_what_to_do() {
    let hub = TestHub::new();
    let refusal = |code, headers: &[(&'static str, &'static str)]| {
        hub.server.trick("/api/", Trick::Status(code, headers.to_vec()), 9);
        let refused = refused(&hub.settings, "main", &["test"]);
        hub.server.behave();
        refused
    };
    let absent = refused(&hub.settings, "main", &["test"]);
    assert!(absent.message.contains("no data set org/rows on the hub"), "{absent}");
    assert!(absent.expected.unwrap().ends_with("/datasets/org/rows"));
    hub.server.publish_rows("org/rows", &rows());
    for code in [401, 403] {
        let gated = refusal(code, &[("X-Error-Code", "GatedRepo")]);
        assert!(gated.message.contains("gated") && gated.hint.unwrap().contains("/datasets/org/rows"));
    }
    assert!(refusal(401, &[]).message.contains("or it is private"));
    assert!(refusal(403, &[]).message.contains("denies access"));
    let unconverted = refusal(404, &[("X-Error-Code", "RevisionNotFound")]);
    assert!(unconverted.message.contains("no Parquet files") && unconverted.expected.unwrap().contains("refs/convert"));
    // Access may be refused to the files alone; the cache must not be a way around that.
    hub.server.trick("/resolve/", Trick::Status(403, vec![("X-Error-Code", "GatedRepo")]), 9);
    assert!(refused(&hub.settings, "main", &["test"]).message.contains("gated"));
    let error = DataSet::open("gsm8k", &hub.settings, &NoProgress).err().unwrap();
    assert!(error.fault().unwrap().message.contains("not a data set"));
}

#[test]
fn splits_that_do_not_exist() {
    let hub = TestHub::new();
    hub.server.publish_rows("org/rows", &rows());
    let absent = refused(&hub.settings, "main", &["dev", "validation"]);
    assert!(absent.message.contains("no split `dev` or `validation`"), "{absent}");
    assert_eq!(absent.got.unwrap(), "the splits `test`, `train`");
    let absent = refused(&hub.settings, "default", &["test"]);
    assert_eq!(absent.got.unwrap(), "the configurations `large`, `main`, `socratic`");
    // Of a very large split the hub has the beginning only.
    let recorder = RecordedProgress::default();
    assert_eq!(split(&hub.settings, "large", &["train"], &recorder).unwrap().1.files.len(), 1);
    assert!(recorder.warnings()[0].contains("only the beginning"), "{:?}", recorder.warnings());
    for (configuration, name) in [("..", "test"), ("main", "../test"), ("main", "a\\b"), ("", "test"), (".git", "x")] {
        let refused = refused(&hub.settings, configuration, &[name]);
        assert!(refused.message.contains("not valid"), "{refused}");
    }
    // A piece that the conversion has not written yet.
    let hole: Files = vec![("main/test/0000.parquet", noise(10, 1)), ("main/test/0002.parquet", noise(10, 2))];
    hub.server.publish_rows("org/rows", &hole);
    let refused = refused(&hub.settings, "main", &["test"]);
    assert!(refused.message.contains("a piece of org/rows") && refused.expected.unwrap().ends_with("0001.parquet"));
}

#[test]
fn malicious_listings_and_files() {
    let hub = TestHub::new();
    hub.server.publish_rows("org/rows", &rows());
    for name in ["main/test/../../../../../0001.parquet", "main/test/0001.parquet/../../x", "/main/test/0001.parquet"] {
        hub.server.also_list("datasets/org/rows", json!({"rfilename": name, "size": 3}));
    }
    assert_eq!(load(&hub.settings, &["test"]).files.len(), 1);
    let damaged = noise(100_000, 9);
    hub.server.trick("?signature", Trick::Body(damaged), 9);
    let error = split(&hub.settings, "main", &["train"], &NoProgress).unwrap_err();
    assert!(format!("{error:#}").contains("arrived damaged"), "{error:#}");
    hub.server.behave();
    hub.server.trick("?signature", Trick::CutAfter(50_000), 1);
    assert_eq!(read(&load(&hub.settings, &["train"]).files), [noise(200_000, 2), noise(100_000, 3)].concat());
    for etag in ["\"../../x\"", "\"\"", "\"a/b\""] {
        hub.server.trick("/socratic/", Trick::Headers(vec![("X-Linked-Etag", etag.to_owned())]), 1);
        assert!(split(&hub.settings, "socratic", &["test"], &NoProgress).is_err(), "{etag}");
    }
    hub.nothing_outside();
}

#[test]
fn a_push_meanwhile_mixes_nothing() {
    let hub = TestHub::new();
    hub.server.publish_rows("org/rows", &rows());
    let set = DataSet::open("org/rows", &hub.settings, &NoProgress).unwrap();
    let before = set.split("main", &names(&["test"]), &NoProgress).unwrap();
    let newer: Files = vec![("main/test/0000.parquet", noise(10, 8)), ("main/train/0000.parquet", noise(10, 9))];
    let commit = hub.server.publish_rows("org/rows", &newer);
    assert_eq!(read(&set.split("main", &names(&["train"]), &NoProgress).unwrap().files).len(), 300_000);
    assert_eq!(set.split("main", &names(&["test"]), &NoProgress).unwrap(), before);
    let (after, found) = split(&hub.settings, "main", &["test"], &NoProgress).unwrap();
    assert_eq!((after, read(&found.files)), (commit, noise(10, 8)));
}
