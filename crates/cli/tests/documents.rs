//! The documents hold together: lines of prose have at most 120 characters, and what links and paths name is there.

use std::path::{Path, PathBuf};

const LONGEST: usize = 120;
/// The directories that paths in documents begin with.
const ROOTS: [&str; 8] = ["crates", "fixtures", "docs", "design", "benches", "studies", "models", "examples"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below `directory` that end with `.ending`, without what a build makes.
fn files(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != "node_modules" && !name.to_string_lossy().starts_with('.') {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|other| other == ending) {
            found.push(path);
        }
    }
}

/// The lines of prose of a file with their numbers: no code, tables, headings or pictures, which cannot be broken.
fn prose(text: &str, comments: bool) -> Vec<(usize, &str, &str)> {
    let mut code = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words = match (comments, line.trim_start()) {
            (false, words) => words,
            (true, words) if words.starts_with("//") => words.trim_start_matches(['/', '!']).trim_start(),
            (true, _) => continue,
        };
        code ^= words.starts_with("```");
        if !code && !words.starts_with(['|', '#']) && !words.starts_with("![") {
            found.push((at + 1, line, words));
        }
    }
    found
}

#[test]
fn lines_of_prose_are_short() {
    let mut all = Vec::new();
    files(&root(), "md", &mut all);
    files(&root().join("crates"), "rs", &mut all);
    assert!(all.len() > 300, "{} files", all.len());
    let mut long = Vec::new();
    for path in &all {
        let text = std::fs::read_to_string(path).unwrap();
        let comments = path.extension().is_some_and(|ending| ending == "rs");
        let over = prose(&text, comments).into_iter().filter(|(_, line, _)| line.chars().count() > LONGEST);
        long.extend(over.map(|(number, ..)| format!("{}:{number}", path.display())));
    }
    assert!(long.is_empty(), "more than {LONGEST} characters: {long:#?}");
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut pages = Vec::new();
    files(&root(), "md", &mut pages);
    let mut missing = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            if !page.parent().unwrap().join(link).exists() {
                missing.push(format!("{} links to {link}", page.display()));
            }
        }
        let plain = |path: &&str| path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(plain).filter(|path| ROOTS.contains(&path.split('/').next().unwrap_or_default())) {
            if path.contains('/') && !root().join(path).exists() {
                missing.push(format!("{} names {path}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
