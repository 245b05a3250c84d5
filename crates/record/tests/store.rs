//! The store keeps finished cells, whatever happens to the files in it.

use std::cell::Cell as Counter;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lopper_record::{NoProgress, Score, Store, StudyLock};
use serde_json::json;

fn only_cell(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let mut entries = fs::read_dir(dir.path().join("cells")).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

#[test]
fn a_finished_cell_is_not_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let calls = Counter::new(0);
    let compute = || {
        calls.set(calls.get() + 1);
        Ok(Score { value: 0.1, stderr: f64::NAN, ci95: [0.0, 0.2], n: 7 })
    };
    {
        let store = Store::open(dir.path()).unwrap();
        let first = store.run("eval", &json!({"task": "a", "seed": 1}), &NoProgress, compute).unwrap();
        assert!(!first.cached);
    }
    let store = Store::open(dir.path()).unwrap();
    let again = store.run("eval", &json!({"seed": 1, "task": "a"}), &NoProgress, compute).unwrap();
    assert!(again.cached && again.value.stderr.is_nan() && again.value.value == 0.1);
    assert_eq!(calls.get(), 1);
    assert!(!store.run("eval", &json!({"task": "a", "seed": 2}), &NoProgress, compute).unwrap().cached);
    assert!(!store.run("heal", &json!({"task": "a", "seed": 1}), &NoProgress, compute).unwrap().cached);
    assert_eq!(calls.get(), 3);
    let cells = store.cells().unwrap();
    assert_eq!(cells.iter().map(|cell| cell.kind.as_str()).collect::<Vec<_>>(), ["eval", "eval", "heal"]);
    assert_eq!(cells[2].key, json!({"task": "a", "seed": 1}));
    assert!(store.take_warnings().is_empty());
}

#[test]
fn a_failed_cell_is_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.run::<f64>("eval", &1, &NoProgress, || lopper_record::bail!("no")).is_err());
    assert_eq!(store.get::<f64>("eval", &1).unwrap(), None);
    assert!(store.cells().unwrap().is_empty());
}

#[test]
fn a_damaged_cell_counts_as_absent_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let key = json!({"task": "a"});
    store.put("eval", &key, &0.5, 1.0).unwrap();
    let path = only_cell(&dir);
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\xff\xfe", br#"{"key":{}}"#] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(store.get::<f64>("eval", &key).unwrap(), None);
        assert_eq!(store.take_warnings().len(), 1);
    }
    assert_eq!(store.run("eval", &key, &NoProgress, || Ok(0.25)).unwrap().value, 0.25);
    assert_eq!(store.get::<f64>("eval", &key).unwrap(), Some(0.25));
}

#[test]
fn a_cell_under_another_cells_name_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put("eval", &1, &0.5, 1.0).unwrap();
    fs::rename(only_cell(&dir), store.path("eval", &2, "json").unwrap()).unwrap();
    assert_eq!(store.get::<f64>("eval", &2).unwrap(), None);
    assert!(store.take_warnings()[0].contains("another cell"));
}

#[test]
fn a_result_of_another_shape_is_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put("eval", &1, &"text", 1.0).unwrap();
    assert_eq!(store.get::<f64>("eval", &1).unwrap(), None);
    assert_eq!(store.take_warnings().len(), 1);
}

#[test]
fn what_a_killed_process_left_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cells")).unwrap();
    fs::write(dir.path().join("cells/.abc.partial"), "{").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.cells().unwrap().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("cells")).unwrap().count(), 0);
}

#[test]
fn two_processes_share_a_directory_and_compute_each_cell_once() {
    let dir = tempfile::tempdir().unwrap();
    let computed = AtomicUsize::new(0);
    let work = || {
        // Each has a store of its own, as a process has.
        let store = Store::open(dir.path()).unwrap();
        for cell in 0..20 {
            let found = store.run("eval", &cell, &NoProgress, || {
                computed.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
                Ok(cell * 7)
            });
            assert_eq!(found.unwrap().value, cell * 7);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    assert_eq!(computed.load(Ordering::SeqCst), 20);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.cells().unwrap().len(), 20);
}

#[test]
fn a_claim_keeps_others_away_until_it_ends_and_what_is_in_use_is_not_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
    let claim = one.claim("eval", &1).unwrap().expect("nobody else claims it");
    assert!(other.claim("eval", &1).unwrap().is_none() && other.claim("eval", &2).unwrap().is_some());
    fs::write(dir.path().join("cells/.abc.partial"), "{").unwrap();
    let third = Store::open(dir.path()).unwrap();
    assert!(dir.path().join("cells/.abc.partial").exists(), "another process may be writing it");
    drop(claim);
    assert!(other.claim("eval", &1).unwrap().is_some());
    assert!(!StudyLock::is_free(dir.path()));
    drop((one, other, third));
    assert!(StudyLock::is_free(dir.path()));
    Store::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("cells")).unwrap().count(), 0);
}

#[test]
fn a_process_that_works_alone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join(".lock")).unwrap();
    file.lock().unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.fault().is_some_and(|fault| fault.message.contains("another process")));
}

#[test]
fn wrong_paths_are_the_users_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Store::open(&file).unwrap_err().fault().is_some());
    let store = Store::open(dir.path().join("new/study")).unwrap();
    assert!(store.put("../escape", &1, &1, 0.0).is_err());
}
