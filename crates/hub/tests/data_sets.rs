//! Rows of data sets from a hub on this machine. The Parquet files are bytes: this crate does not look into
//! them.

mod common;

use std::path::PathBuf;

use anyhow::Result;
use common::{Files, Place, file_names, noise};
use lopper_hub::{DataSet, Settings, Silent, SplitFiles, Watch};
use lopper_record::Fault;
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

fn split(settings: &Settings, configuration: &str, splits: &[&str], watch: &dyn Watch) -> Result<(String, SplitFiles)> {
    let set = DataSet::open("org/rows", settings, watch)?;
    let found = set.split(configuration, &names(splits), watch)?;
    Ok((set.commit().to_owned(), found))
}

fn load(settings: &Settings, splits: &[&str]) -> SplitFiles {
    split(settings, "main", splits, &Silent).unwrap().1
}

fn fault(result: Result<(String, SplitFiles)>) -> Fault {
    let fault: Fault = result.unwrap_err().downcast().unwrap_or_else(|error| panic!("not a fault: {error:#}"));
    assert!(fault.expected.is_some() && fault.got.is_some() && fault.hint.is_some(), "{fault}");
    fault
}

fn read(files: &[PathBuf]) -> Vec<u8> {
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn only_the_split_that_is_asked_for_is_fetched() {
    let mut place = Place::new();
    place.settings.token = Some("hf_secret".to_owned());
    let commit = place.server.publish_rows("org/rows", &rows());
    let (found_commit, found) = split(&place.settings, "main", &["validation", "train", "test"], &Silent).unwrap();
    assert_eq!((found_commit, found.split.as_str()), (commit.clone(), "train"));
    assert_eq!(read(&found.files), [noise(200_000, 2), noise(100_000, 3)].concat());
    let cache = place.cache().join("datasets--org--rows");
    assert_eq!(
        file_names(&cache.join("snapshots")),
        [format!("{commit}/main/train/0000.parquet"), format!("{commit}/main/train/0001.parquet")]
    );
    assert_eq!(std::fs::read_to_string(cache.join("refs/refs/convert/parquet")).unwrap(), commit);
    // The addresses are those that huggingface_hub asks for.
    let asked = place.server.requests();
    assert_eq!(asked[0].path, "/api/datasets/org/rows/revision/refs%2Fconvert%2Fparquet?blobs=true");
    assert_eq!(asked[1].path, format!("/datasets/org/rows/resolve/{commit}/main/train/0000.parquet"));
    let (hub, store): (Vec<_>, Vec<_>) = asked.iter().partition(|request| request.side == Side::Hub);
    assert!(store.len() == 2 && store.iter().all(|request| request.authorization.is_none()));
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let place = Place::new();
    place.server.publish_rows("org/rows", &rows());
    let set = DataSet::open("org/rows", &place.settings, &Silent).unwrap();
    let first = set.split("main", &names(&["test"]), &Silent).unwrap();
    set.split("socratic", &names(&["test"]), &Silent).unwrap();
    // The hub was asked once what there is.
    assert_eq!(place.server.requests().iter().filter(|request| request.path.starts_with("/api/")).count(), 1);
    assert_eq!(load(&place.settings, &["test"]), first);
    assert_eq!(place.server.requests().len(), 1);
    assert_eq!(load(&place.offline().0, &["test"]), first);
    assert!(place.server.requests().is_empty());
}

#[test]
fn without_the_hub_a_split_is_whole_or_refused() {
    let place = Place::new();
    let offline = place.offline().0;
    assert!(fault(split(&offline, "main", &["test"], &Silent)).message.contains("not in the cache"));
    let commit = place.server.publish_rows("org/rows", &rows());
    load(&place.settings, &["train"]);
    // The first choice is known to be there and is not cached; another split must not slip in.
    let part = fault(split(&offline, "main", &["test", "train"], &Silent));
    assert!(part.message.contains("only in part") && part.expected.unwrap() == "main/test/0000.parquet");
    let second = place.cache().join(format!("datasets--org--rows/snapshots/{commit}/main/train/0001.parquet"));
    std::fs::remove_file(&second).unwrap();
    let part = fault(split(&offline, "main", &["train"], &Silent));
    assert_eq!(part.expected.unwrap(), "main/train/0001.parquet");
    assert!(part.hint.unwrap().contains("--offline"));
    // The next time mends it, without fetching what is there.
    place.server.requests();
    load(&place.settings, &["train"]);
    assert!(place.server.requests().iter().all(|request| request.side == Side::Hub), "the blob was there");
    // A cache whose listing is lost says that it does not know.
    let recorder = Told::default();
    std::fs::remove_dir_all(place.cache().join("datasets--org--rows/trees")).unwrap();
    assert_eq!(split(&offline, "main", &["train"], &recorder).unwrap().1.files.len(), 2);
    assert!(recorder.text().contains("does not tell"), "{}", recorder.text());
    std::fs::remove_file(second.with_file_name("0000.parquet")).unwrap();
    assert!(fault(split(&offline, "main", &["train"], &Silent)).message.contains("only in part"));
    assert!(fault(split(&offline, "other", &["train"], &Silent)).message.contains("only in part"));
}

#[test]
fn without_a_network_the_cache_stands_in() {
    let mut place = Place::new();
    let commit = place.server.publish_rows("org/rows", &rows());
    load(&place.settings, &["test"]);
    for code in [500, 503, 429] {
        place.server.trick("/api/", Trick::Status(code, vec![]), 9);
        let told = Told::default();
        split(&place.settings, "main", &["test"], &told).unwrap();
        assert!(told.text().contains(&commit), "{code}: {}", told.text());
        place.server.behave();
    }
    place.settings.endpoint = "http://127.0.0.1:9".to_owned();
    load(&place.settings, &["test"]);
    assert!(fault(split(&place.settings, "main", &["train"], &Silent)).message.contains("only in part"));
    place.settings.cache = place.dir.path().join("cache/empty");
    assert!(fault(split(&place.settings, "main", &["test"], &Silent)).message.contains("cannot be reached"));
}

#[test]
fn refusals_say_what_to_do() {
    let place = Place::new();
    let refusal = |code, headers: &[(&'static str, &'static str)]| {
        place.server.trick("/api/", Trick::Status(code, headers.to_vec()), 9);
        let refused = fault(split(&place.settings, "main", &["test"], &Silent));
        place.server.behave();
        refused
    };
    let absent = fault(split(&place.settings, "main", &["test"], &Silent));
    assert!(absent.message.contains("no data set org/rows on the hub"), "{absent}");
    assert!(absent.expected.unwrap().ends_with("/datasets/org/rows"));
    place.server.publish_rows("org/rows", &rows());
    for code in [401, 403] {
        let gated = refusal(code, &[("X-Error-Code", "GatedRepo")]);
        assert!(gated.message.contains("has to be granted") && gated.hint.unwrap().contains("/datasets/org/rows"));
    }
    assert!(refusal(401, &[]).message.contains("or it is private"));
    assert!(refusal(403, &[]).message.contains("no access"));
    let unconverted = refusal(404, &[("X-Error-Code", "RevisionNotFound")]);
    assert!(unconverted.message.contains("no Parquet files") && unconverted.expected.unwrap().contains("refs/convert"));
    // Access may be refused to the files alone; the cache is no way around it.
    place.server.trick("/resolve/", Trick::Status(403, vec![("X-Error-Code", "GatedRepo")]), 9);
    assert!(fault(split(&place.settings, "main", &["test"], &Silent)).message.contains("has to be granted"));
    let error = DataSet::open("gsm8k", &place.settings, &Silent).err().unwrap();
    assert!(error.downcast_ref::<Fault>().unwrap().message.contains("not a data set"));
}

#[test]
fn splits_that_are_not_there() {
    let place = Place::new();
    place.server.publish_rows("org/rows", &rows());
    let absent = fault(split(&place.settings, "main", &["dev", "validation"], &Silent));
    assert!(absent.message.contains("no split `dev` or `validation`"), "{absent}");
    assert_eq!(absent.got.unwrap(), "the splits `test`, `train`");
    let absent = fault(split(&place.settings, "default", &["test"], &Silent));
    assert_eq!(absent.got.unwrap(), "the configurations `large`, `main`, `socratic`");
    // Of a very large split the beginning alone is there.
    let told = Told::default();
    assert_eq!(split(&place.settings, "large", &["train"], &told).unwrap().1.files.len(), 1);
    assert!(told.text().contains("only the beginning"), "{}", told.text());
    for (configuration, name) in [("..", "test"), ("main", "../test"), ("main", "a\\b"), ("", "test"), (".git", "x")] {
        let refused = fault(split(&place.settings, configuration, &[name], &Silent));
        assert!(refused.message.contains("no name"), "{refused}");
    }
    // A piece that the conversion has not written yet.
    let hole: Files = vec![("main/test/0000.parquet", noise(10, 1)), ("main/test/0002.parquet", noise(10, 2))];
    place.server.publish_rows("org/rows", &hole);
    let refused = fault(split(&place.settings, "main", &["test"], &Silent));
    assert!(refused.message.contains("a piece of org/rows") && refused.expected.unwrap().ends_with("0001.parquet"));
}

#[test]
fn listings_and_files_that_mean_harm() {
    let place = Place::new();
    place.server.publish_rows("org/rows", &rows());
    for name in ["main/test/../../../../../0001.parquet", "main/test/0001.parquet/../../x", "/main/test/0001.parquet"] {
        place.server.also_list("datasets/org/rows", json!({"rfilename": name, "size": 3}));
    }
    assert_eq!(load(&place.settings, &["test"]).files.len(), 1);
    let damaged = noise(100_000, 9);
    place.server.trick("?signature", Trick::Body(damaged), 9);
    let error = split(&place.settings, "main", &["train"], &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("arrived damaged"), "{error:#}");
    place.server.behave();
    place.server.trick("?signature", Trick::CutAfter(50_000), 1);
    assert_eq!(read(&load(&place.settings, &["train"]).files), [noise(200_000, 2), noise(100_000, 3)].concat());
    for etag in ["\"../../x\"", "\"\"", "\"a/b\""] {
        place.server.trick("/socratic/", Trick::Headers(vec![("X-Linked-Etag", etag.to_owned())]), 1);
        assert!(split(&place.settings, "socratic", &["test"], &Silent).is_err(), "{etag}");
    }
    place.nothing_outside();
}

#[test]
fn a_push_in_between_mixes_nothing() {
    let place = Place::new();
    place.server.publish_rows("org/rows", &rows());
    let set = DataSet::open("org/rows", &place.settings, &Silent).unwrap();
    let before = set.split("main", &names(&["test"]), &Silent).unwrap();
    let newer: Files = vec![("main/test/0000.parquet", noise(10, 8)), ("main/train/0000.parquet", noise(10, 9))];
    let commit = place.server.publish_rows("org/rows", &newer);
    assert_eq!(read(&set.split("main", &names(&["train"]), &Silent).unwrap().files).len(), 300_000);
    assert_eq!(set.split("main", &names(&["test"]), &Silent).unwrap(), before);
    let (after, found) = split(&place.settings, "main", &["test"], &Silent).unwrap();
    assert_eq!((after, read(&found.files)), (commit, noise(10, 8)));
}

/// Remembers what the user is told.
#[derive(Default)]
struct Told(std::cell::RefCell<String>);

impl Told {
    fn text(&self) -> String {
        self.0.borrow().clone()
    }
}

impl Watch for Told {
    fn warn(&self, text: &str) {
        self.0.borrow_mut().push_str(text);
    }
}
