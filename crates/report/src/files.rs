//! The files of a report: the page, and next to it a directory with every figure as SVG and every table as CSV and
//! JSON.
//!
//! A list of what was written is kept in that directory, so that a report that is made again removes what it no longer
//! has, and nothing that it did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lopper_record::{Context, Fault, Result, StudyRecord, write_atomic};
use serde_json::json;

use crate::chart::FIGURE_ATTRIBUTE;
use crate::html::STYLE;
use crate::{data, render};

/// Name of the page in the directory of a study.
pub const PAGE: &str = "report.html";
/// Name of the directory of figures and data next to the page.
pub const FILES: &str = "report";
/// The list of files in that directory.
const LIST: &str = "files.json";
/// What figures are written in, where the page uses the reader's own.
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

/// Writes `DIR/report.html` and, in `DIR/report`, its figures and data; each file whole or not at all. Returns the path
/// of the page.
///
/// # Errors
/// A [`Fault`] where something else is in the way.
pub fn write(record: &StudyRecord, directory: &Path) -> Result<PathBuf> {
    let page = render(record)?;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, svg) in figures(&page) {
        files.push((format!("figures/{name}.svg"), svg.into_bytes()));
    }
    for table in data::tables(record) {
        files.push((format!("data/{}.csv", table.name), table.csv()?));
        files.push((format!("data/{}.json", table.name), table.json()?));
    }
    write_files(&directory.join(FILES), &files)?;
    let path = directory.join(PAGE);
    write_atomic(&path, page.as_bytes())?;
    Ok(path)
}

fn write_files(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    if directory.symlink_metadata().is_ok() && !directory.is_dir() {
        return Err(Fault::new("a file is in the way of the report's figures and data")
            .file(directory)
            .expected("a directory, or nothing")
            .hint("move the file away")
            .into());
    }
    let before = listed(directory);
    let now: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    for name in now.difference(&before) {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(Fault::new("a file that no report wrote is in the way of a report's file")
                .file(&path)
                .hint("move it away")
                .into());
        }
    }
    // Interrupted after this, the next report still knows which files are its own.
    write_list(directory, &before.union(&now).cloned().collect())?;
    for (name, bytes) in files {
        write_atomic(&directory.join(name), bytes)?;
    }
    for stale in before.difference(&now) {
        let path = directory.join(stale);
        if path.is_file() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    write_list(directory, &now)
}

/// The files that an earlier report wrote; none where there is no list, or none that can be read.
fn listed(directory: &Path) -> BTreeSet<String> {
    let list = fs::read(directory.join(LIST)).ok();
    let list: Option<serde_json::Value> = list.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let names = list.as_ref().and_then(|list| list["files"].as_array());
    let names = names.into_iter().flatten().filter_map(|name| name.as_str());
    names.filter(|name| is_own(name)).map(str::to_owned).collect()
}

/// Whether a report can have written a file of this name; a list that was edited leads nowhere else.
fn is_own(name: &str) -> bool {
    let Some((directory, file)) = name.split_once('/') else { return false };
    let Some((stem, ending)) = file.rsplit_once('.') else { return false };
    let plain = !stem.is_empty() && stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    plain && matches!((directory, ending), ("figures", "svg") | ("data", "csv" | "json"))
}

fn write_list(directory: &Path, names: &BTreeSet<String>) -> Result<()> {
    let list = json!({"written_by": concat!("lopper ", env!("CARGO_PKG_VERSION")), "files": names});
    let bytes = serde_json::to_vec_pretty(&list).context("the list of files cannot be written as JSON")?;
    write_atomic(&directory.join(LIST), &bytes)
}

/// The figures of a page with their names, each a document of its own.
pub fn figures(page: &str) -> Vec<(String, String)> {
    let mark = format!(" {FIGURE_ATTRIBUTE}=\"");
    let mut found: Vec<(String, String)> = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for part in page.split("<svg ").skip(1) {
        let Some((svg, _)) = part.split_once("</svg>") else { continue };
        let Some((head, body)) = svg.split_once('>') else { continue };
        let Some((_, rest)) = head.split_once(&mark) else { continue };
        let Some((name, _)) = rest.split_once('"') else { continue };
        // Two tasks' names may be the same without their signs.
        let number = seen.entry(name).and_modify(|count| *count += 1).or_insert(1);
        let name = if *number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        found.push((name, document(head, body)));
    }
    found
}

/// A drawing as a file: with a size, a background, the colours of light pages, and fonts, since no page is around it.
fn document(head: &str, body: &str) -> String {
    let of = |name: &str| {
        let rest = head.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let view = of("viewBox");
    let size: Vec<&str> = view.split_whitespace().skip(2).collect();
    let (width, height) = (size.first().unwrap_or(&"100%"), size.get(1).unwrap_or(&"100%"));
    let label = of("aria-label");
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{view}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" font-family=\"{FONTS}\">\n<title>{label}</title>\n<rect width=\"100%\" height=\"100%\" \
         fill=\"var(--surface)\"/>{body}</svg>\n"
    );
    for (variable, colour) in light_colours() {
        out = out.replace(&format!("var({variable})"), colour);
    }
    out.replace("font-family=\"inherit\"", &format!("font-family=\"{FONTS}\""))
}

/// The variables of the style sheet's first rule, which is that of light pages.
fn light_colours() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rule = STYLE.split_once('{').map_or("", |(_, rest)| rest).split('}').next().unwrap_or_default();
    rule.split(';').filter_map(|entry| entry.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<(String, Vec<u8>)> {
        names.iter().map(|name| ((*name).to_owned(), b"new".to_vec())).collect()
    }

    #[test]
    fn what_a_report_no_longer_has_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_files(dir.path(), &named(&["figures/a.svg", "data/b.csv"])).unwrap();
        fs::write(at("figures/mine.svg"), "mine").unwrap();
        write_files(dir.path(), &named(&["data/b.csv", "data/c.json"])).unwrap();
        assert!(!at("figures/a.svg").exists() && at("data/c.json").exists());
        assert_eq!(fs::read(at("figures/mine.svg")).unwrap(), b"mine");

        let error = write_files(dir.path(), &named(&["figures/mine.svg"])).unwrap_err();
        assert!(error.fault().is_some_and(|fault| fault.message.contains("no report wrote")));
        assert!(at("data/b.csv").exists(), "nothing was touched");

        fs::remove_file(at("figures/mine.svg")).unwrap();
        fs::write(at("outside"), "mine").unwrap();
        fs::write(at(LIST), "{\"files\": [\"../outside\", \"outside\", \"figures/../../x.svg\", 3]}").unwrap();
        assert_eq!(listed(dir.path()), BTreeSet::new());
        fs::write(at(LIST), "{\"fil").unwrap();
        assert_eq!(listed(dir.path()), BTreeSet::new());
    }

    #[test]
    fn a_file_in_the_way_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILES), "").unwrap();
        let error = write(&StudyRecord::default(), dir.path()).unwrap_err();
        assert!(error.fault().is_some_and(|fault| fault.message.contains("in the way")));
        assert!(!dir.path().join(PAGE).exists());
    }

    #[test]
    fn a_figure_by_itself_has_a_size_and_fixed_colours() {
        let page = "<svg class=\"small\" data-figure=\"x\" role=\"img\" aria-label=\"a &lt; b\" viewBox=\"0 0 30 20\" \
                    xmlns=\"s\"><text font-family=\"inherit\" fill=\"var(--ink)\">t</text></svg><svg class=\"key\"></svg>\
                    <svg class=\"small\" data-figure=\"x\" viewBox=\"0 0 3 2\"></svg>";
        let found = figures(page);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x", "x-2"]);
        let svg = &found[0].1;
        assert!(svg.contains("width=\"30\" height=\"20\"") && svg.contains("<title>a &lt; b</title>"), "{svg}");
        assert!(!svg.contains("var(") && !svg.contains("inherit"), "{svg}");
    }
}
