//! Tests that need something which not every machine has: they say that they are skipped, and fail
//! instead where the machine is known to have it.
//!
//! ```
//! use lopper_testkit::{Feature, skip_unless};
//! # fn interpreter() -> Option<&'static str> { Some("python3") }
//! let Some(python) = skip_unless(Feature::Sandbox, interpreter()) else { return };
//! assert_eq!(python, "python3");
//! ```
//!
//! `LOPPER_REQUIRE` lists the features that may not be missing, by name and separated by commas:
//! `LOPPER_REQUIRE=sandbox,bf16 cargo test`.

use std::io::Write;

/// What a test may need of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `sandbox`: a Python interpreter, with Landlock and seccomp to isolate it.
    Sandbox,
    /// `namespaces`: the sandbox, with all namespaces as well.
    Namespaces,
    /// `numpy`: a Python interpreter with numpy.
    Numpy,
    /// `bf16`: a processor with AVX-512 BF16.
    Bf16,
    /// `shared`: real data sets and models in `../shared`, next to the repository.
    Shared,
    /// `trl`: a Python interpreter with TRL and PEFT: `LOPPER_TRL_PYTHON`, or else `python3`.
    Trl,
    /// `browser`: chromium and node, with `npm ci` done in `crates/report/browser`.
    Browser,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 7] =
        [Self::Sandbox, Self::Namespaces, Self::Numpy, Self::Bf16, Self::Shared, Self::Trl, Self::Browser];

    /// Its name in `LOPPER_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Namespaces => "namespaces",
            Self::Numpy => "numpy",
            Self::Bf16 => "bf16",
            Self::Shared => "shared",
            Self::Trl => "trl",
            Self::Browser => "browser",
        }
    }
}

/// Gives `available` back. Where it is `None`, writes `skipped: TEST needs FEATURE` to stderr, whether
/// or not the test's output is captured.
///
/// # Panics
/// If it is `None` and the environment's `LOPPER_REQUIRE` names the feature, or names one that does not
/// exist.
#[track_caller]
pub fn skip_unless<T>(feature: Feature, available: Option<T>) -> Option<T> {
    let required = std::env::var("LOPPER_REQUIRE").unwrap_or_default();
    let missing = missing(feature, available.is_some(), &required);
    if let Some(line) = missing.unwrap_or_else(|failure| panic!("{failure}")) {
        // `eprintln!` would be captured.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    available
}

/// The line that says what is skipped, if anything is; an error where it may not be.
fn missing(feature: Feature, available: bool, required: &str) -> Result<Option<String>, String> {
    let required: Vec<&str> = required.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = required.iter().find(|name| Feature::ALL.iter().all(|feature| feature.name() != **name)) {
        return Err(format!(
            "LOPPER_REQUIRE names `{unknown}`; there are {}",
            Feature::ALL.map(Feature::name).join(", ")
        ));
    }
    let (thread, name) = (std::thread::current(), feature.name());
    let test = thread.name().unwrap_or("a test");
    match (available, required.contains(&name)) {
        (true, _) => Ok(None),
        (false, false) => Ok(Some(format!("skipped: {test} needs {name}"))),
        (false, true) => Err(format!("{test} needs {name}, which LOPPER_REQUIRE says that this machine has")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_what_is_required_fails() {
        let test = "require::tests::what_is_missing_is_said_and_what_is_required_fails";
        assert_eq!(missing(Feature::Bf16, true, "bf16"), Ok(None));
        assert_eq!(missing(Feature::Bf16, false, ""), Ok(Some(format!("skipped: {test} needs bf16"))));
        assert_eq!(missing(Feature::Bf16, false, "sandbox, shared,"), Ok(Some(format!("skipped: {test} needs bf16"))));
        assert!(missing(Feature::Bf16, false, "sandbox, bf16").unwrap_err().contains("LOPPER_REQUIRE"));
        assert!(missing(Feature::Shared, false, "shared").unwrap_err().contains("needs shared"));
        assert!(missing(Feature::Sandbox, true, "bf-16").unwrap_err().contains("`bf-16`"));
    }
}
