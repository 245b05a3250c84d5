//! The Python interpreter and the files that it needs.
//!
//! The interpreter is run once outside the sandbox to find them: a name on the search path may be a wrapper (pyenv) or
//! a link into a virtual environment, and only Python knows where its library is. That run executes no code of a model.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lopper_record::{Context, Fault, Result};
use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// The harness's source.
pub(crate) const HARNESS: &str = include_str!("harness.py");

/// The program that prints the interpreter's paths.
const DESCRIBE: &str = r#"
import json, os, sys, sysconfig
paths = sysconfig.get_paths()
mapped = set()
try:
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith("/"):
                mapped.add(os.path.realpath(fields[5].rstrip("\n")))
except OSError:
    pass
print(json.dumps({
    "executable": os.path.realpath(sys.executable),
    "version": list(sys.version_info[:3]),
    "library": sorted({paths["stdlib"], paths["platstdlib"]}),
    "packages": [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")],
    "mapped": sorted(mapped),
}))
"#;

/// System paths that extension modules may need.
const SYSTEM: [&str; 8] =
    ["/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/usr/share/zoneinfo"];

/// The oldest version that the harness is written for.
const OLDEST: (u32, u32) = (3, 8);

/// An interpreter.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Interpreter {
    /// The program itself, all links resolved.
    pub executable: PathBuf,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
    library: Vec<PathBuf>,
    packages: Vec<PathBuf>,
    mapped: Vec<PathBuf>,
}

/// The files that a program sees: the same paths as outside, read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Files and directories, links resolved, none beneath another.
    pub paths: Vec<PathBuf>,
    /// Symbolic links and their targets.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Files that may be executed: the interpreter and the dynamic loader.
    pub executables: Vec<PathBuf>,
}

impl Interpreter {
    /// Finds the policy's interpreter.
    ///
    /// # Errors
    /// A [`Fault`] if it does not work or is too old.
    pub(crate) fn find(policy: &Policy) -> Result<Self> {
        let name = policy.python.clone().unwrap_or_else(|| PathBuf::from("python3"));
        let fault = |message: &str| {
            Fault::new(message).file(&name).hint("name a Python interpreter, version 3.8 or later, that works here")
        };
        let output = Command::new(&name)
            .args(["-I", "-c", DESCRIBE])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| fault("the Python interpreter cannot be started").got(e.to_string()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(fault("the Python interpreter does not work").got(stderr).into());
        }
        let found: Self = serde_json::from_slice(&output.stdout)
            .map_err(|e| fault("this is not a Python interpreter, or an old one").got(e.to_string()))?;
        if (found.version.0, found.version.1) < OLDEST {
            let (major, minor, patch) = found.version;
            return Err(fault("the Python interpreter is too old").got(format!("{major}.{minor}.{patch}")).into());
        }
        Ok(found)
    }

    /// Its version, for people.
    pub(crate) fn version(&self) -> String {
        format!("Python {}.{}.{}", self.version.0, self.version.1, self.version.2)
    }

    /// The command line that starts the harness. It does not ignore Python's environment variables (`-E`), because the
    /// environment is Lopper's own and fixes the seed of hashes: a program that depends on the order of a set gets the
    /// same verdict every time.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let executable = self.executable.to_string_lossy().into_owned();
        [&executable, "-s", "-S", "-B", "-X", "utf8", "-c", HARNESS].map(str::to_owned).to_vec()
    }

    /// The value of `LD_LIBRARY_PATH` that the interpreter needs; empty unless the caller has set that variable.
    pub(crate) fn libraries(&self) -> String {
        if std::env::var_os("LD_LIBRARY_PATH").is_none() {
            return String::new();
        }
        let own = |path: &&PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libpython"));
        let directory = self.mapped.iter().find(own).and_then(|path| path.parent());
        directory.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Directories after the standard library on `sys.path`.
    pub(crate) fn python_path(&self, policy: &Policy) -> Vec<PathBuf> {
        let packages = if policy.site_packages { self.packages.as_slice() } else { &[] };
        packages.iter().chain(&policy.python_path).cloned().collect()
    }

    /// The files that programs can read.
    ///
    /// # Errors
    /// A [`Fault`] for a path of the policy that does not exist, or is the root.
    pub(crate) fn view(&self, policy: &Policy) -> Result<View> {
        let mut wanted: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).filter(|p| p.exists()).collect();
        wanted.push(self.executable.clone());
        wanted.extend(self.library.iter().chain(&self.mapped).filter(|p| p.exists()).cloned());
        for path in self.python_path(policy).iter().chain(&policy.read_paths) {
            if !path.exists() {
                return Err(Fault::new("a path that programs should be able to read does not exist").file(path).into());
            }
            wanted.push(std::path::absolute(path).with_context(|| path.display().to_string())?);
        }
        let mut view = View::of(&wanted)?;
        view.executables.push(self.executable.clone());
        view.executables.extend(self.mapped.iter().filter(|path| is_loader(path)).cloned());
        Ok(view)
    }
}

impl View {
    /// The view of these existing absolute paths.
    fn of(wanted: &[PathBuf]) -> Result<Self> {
        let mut paths = Vec::new();
        let mut links = Vec::new();
        for path in wanted {
            let real = path.canonicalize().with_context(|| path.display().to_string())?;
            if real == Path::new("/") {
                return Err(Fault::new("the root directory cannot be readable to programs").file(path).into());
            }
            if real != *path {
                links.push((path.clone(), real.clone()));
            }
            paths.push(real);
        }
        let below = |path: &Path, others: &[PathBuf]| others.iter().any(|o| path != o && path.starts_with(o));
        paths.sort();
        paths.dedup();
        let all = paths.clone();
        paths.retain(|path| !below(path, &all));
        links.sort();
        links.dedup();
        // Links below a visible path or below another link are not needed.
        let visible: Vec<PathBuf> = links.iter().map(|(link, _)| link.clone()).chain(paths.iter().cloned()).collect();
        links.retain(|(link, _)| !below(link, &visible));
        Ok(Self { paths, links, executables: Vec::new() })
    }
}

/// Whether a mapped file is the dynamic loader, which the kernel executes with the interpreter.
fn is_loader(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"))
}

/// The environment of every program, with nothing of the caller's.
pub(crate) fn environment(directory: &str, libraries: &str) -> Vec<(String, String)> {
    let fixed = [
        ("PATH", "/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("PYTHONHASHSEED", "0"),
        // One thread each: several programs run in parallel, and each thread of a numeric library reserves memory.
        ("OPENBLAS_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_NUM_THREADS", "1"),
        ("HOME", directory),
        ("TMPDIR", directory),
    ];
    let found = (!libraries.is_empty()).then_some(("LD_LIBRARY_PATH", libraries));
    fixed.into_iter().chain(found).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Paths in the harness's format, separated by zero bytes.
pub(crate) fn joined(paths: &[PathBuf]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(OsString::from(path).as_encoded_bytes());
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_holds_no_path_twice_and_keeps_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("usr/lib/python")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
        let wanted = [root.join("lib"), root.join("usr/lib"), root.join("usr/lib/python"), root.join("lib/python")];
        let view = View::of(&wanted).unwrap();
        assert_eq!(view.paths, [root.join("usr/lib")]);
        assert_eq!(view.links, [(root.join("lib"), root.join("usr/lib"))]);
    }

    #[test]
    fn the_whole_tree_is_refused() {
        let error = View::of(&[PathBuf::from("/")]).unwrap_err();
        assert!(error.fault().is_some(), "{error}");
    }

    #[test]
    fn other_programs_are_not_interpreters() {
        for name in ["/nonexistent/python3", "true", "false"] {
            let policy = Policy { python: Some(name.into()), ..Policy::default() };
            let error = Interpreter::find(&policy).unwrap_err();
            assert!(error.fault().is_some(), "{name}: {error}");
        }
    }
}
