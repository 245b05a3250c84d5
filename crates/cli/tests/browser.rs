//! The pages that the program writes, in chromium, by `crates/report/browser/check.mjs`: no console error, no request,
//! light and dark, 360 px wide, print, keyboard, and nothing that axe-core finds.

#[path = "../../report/tests/common/mod.rs"]
mod made_up;

use std::path::{Path, PathBuf};
use std::process::Command;

use lopper_record::StudyRecord;
use lopper_testkit::{Feature, skip_unless};
use serde_json::{Value, json};

/// Where chromium is looked for; `LOPPER_CHROMIUM` names another.
const CHROMIUM: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

fn checker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../report/browser")
}

/// The browser, where all that drives it is there as well.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("LOPPER_CHROMIUM").map(PathBuf::from);
    let chromium = named.into_iter().chain(CHROMIUM.map(PathBuf::from)).find(|path| path.is_file())?;
    let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    (node && checker().join("node_modules/playwright-core").is_dir()).then_some(chromium)
}

/// The studies whose pages are checked: a whole one, one that was interrupted, one without an answer, an empty one.
fn studies() -> [(&'static str, StudyRecord); 4] {
    let whole = made_up::study();
    let unfinished = StudyRecord { complete: false, budget: vec![], ledger: vec![], samples: vec![], ..whole.clone() };
    let mut undecided = whole.clone();
    for line in &mut undecided.budget {
        line.max_layers = None;
        line.statement = line.sentence(Some(12));
    }
    [("whole", whole), ("unfinished", unfinished), ("undecided", undecided), ("empty", StudyRecord::default())]
}

fn lopper(directory: &Path, arguments: &[&str]) {
    let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("lopper"));
    command.current_dir(directory).arg("report").args(arguments).assert().success();
}

#[test]
fn pages_pass_in_a_browser() {
    let Some(chromium) = skip_unless(Feature::Browser, chromium()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut pages = vec![dir.path().join("compare.html")];
    for (name, record) in studies() {
        record.write(&dir.path().join(name)).unwrap();
        lopper(dir.path(), &[name]);
        pages.push(dir.path().join(name).join("report.html"));
    }
    lopper(dir.path(), &["whole", "undecided"]);

    let mut command = Command::new("node");
    command.arg(checker().join("check.mjs")).arg("--chromium").arg(chromium).args(&pages);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let checked = report["pages"].as_array().unwrap();
    let problems: Vec<&Value> = checked.iter().filter(|page| page["problems"] != json!([])).collect();
    assert!(output.status.success() && problems.is_empty(), "{problems:#?}");
    assert_eq!(checked.len(), pages.len());
    for page in checked {
        // Four views, each of which passes some rules.
        assert!(page["axePasses"].as_u64() > Some(20) && page["pdfBytes"].as_u64() > Some(1000), "{page:#}");
    }
    let whole = &checked[1];
    assert!(whole["focusStops"].as_u64() > Some(5) && whole["scrollable"].as_u64() >= Some(1), "{whole:#}");
}
