//! Address, cache directory and access token, from the environment variables of huggingface_hub (its `constants.py`),
//! so that both programs use the same files.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lopper_record::{Fault, Result};

use crate::cache::read_up_to;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// A token file is one line.
const MAX_TOKEN_BYTES: u64 = 1 << 16;

/// How the hub is reached, and where downloads are kept.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The cache's directory.
    pub cache: PathBuf,
    /// The user's access token.
    pub token: Option<String>,
    /// Use the cache only, without any request.
    pub offline: bool,
    /// Certificates (PEM) to trust instead of Mozilla's, for networks with a TLS-inspecting proxy.
    pub certificates: Option<PathBuf>,
}

/// Does not show the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("certificates", &self.certificates)
            .finish()
    }
}

impl Settings {
    /// Reads the environment variables `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, `SSL_CERT_FILE`.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// As [`Settings::from_env`], with `variable` in place of the environment.
    ///
    /// # Errors
    /// A [`Fault`] if no directory for the cache can be determined, or if endpoint or token are malformed.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        // An empty variable counts as unset: that is how shells switch one off.
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| get(name).map(|value| expand(value.into(), &get));
        let on =
            |name: &str| text(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()));

        let cache_home = || path("XDG_CACHE_HOME").or_else(|| Some(home(&get)?.join(".cache")));
        let hf_home = path("HF_HOME").or_else(|| Some(cache_home()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")));
        let Some(cache) = cache else {
            return Err(Fault::new("there is no directory for downloads from the hub")
                .expected("HF_HUB_CACHE, HF_HOME or a home directory")
                .got("none of them")
                .hint("set HF_HUB_CACHE to a directory")
                .into());
        };
        let token = if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token")));
            let given = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).and_then(|text| clean(&text));
            given.or_else(|| read_token(&file?))
        };
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Fault::new("the access token is malformed")
                .expected("letters, digits and punctuation only, in HF_TOKEN or the token file")
                .got("white space or other characters inside it")
                .hint("`hf auth login` stores a new one")
                .into());
        }
        Ok(Self {
            endpoint: endpoint(text("HF_ENDPOINT"))?,
            cache,
            token,
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            certificates: path("SSL_CERT_FILE"),
        })
    }
}

fn endpoint(given: Option<String>) -> Result<String> {
    let Some(given) = given else { return Ok(DEFAULT_ENDPOINT.to_owned()) };
    let endpoint = given.trim().trim_end_matches('/');
    let uri: Option<ureq::http::Uri> = endpoint.parse().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    if usable {
        return Ok(endpoint.to_owned());
    }
    Err(Fault::new("HF_ENDPOINT is not the address of a hub")
        .expected(format!("an address such as {DEFAULT_ENDPOINT}"))
        .got(format!("`{given}`"))
        .hint("unset it to use the default hub")
        .into())
}

fn home(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from)
}

/// `~/x` is the user's; shells do not expand it inside an assignment's quotes.
fn expand(path: PathBuf, get: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), home(get)) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn read_token(file: &std::path::Path) -> Option<String> {
    clean(&String::from_utf8(read_up_to(file, MAX_TOKEN_BYTES).ok()?).ok()?)
}

fn clean(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Settings::from_variables(&find)
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let cache = |variables: &[(&str, &str)]| settings(variables).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/h")]), PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/y")]), PathBuf::from("/h/y/hub"));
        assert_eq!(cache(&[("HF_HOME", "/y"), ("HF_HUB_CACHE", "/z")]), PathBuf::from("/z"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/y")]), PathBuf::from("/y/hub"));
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn tokens_come_from_the_variable_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| settings(&[more, &[("HF_HOME", home)]].concat()).unwrap().token;
        assert_eq!(token(&[]), None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN", " hf_given\n")]).as_deref(), Some("hf_given"));
        assert_eq!(token(&[("HF_TOKEN", "hf_given"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert!(settings(&[("HF_HOME", home), ("HF_TOKEN", "two words")]).is_err());
        let shown = format!("{:?}", settings(&[("HF_HOME", home)]).unwrap());
        assert!(!shown.contains("hf_file"), "{shown}");
    }

    #[test]
    fn endpoints_and_flags() {
        let of = |name, value| settings(&[("HOME", "/h"), (name, value)]);
        assert_eq!(of("HF_ENDPOINT", "http://127.0.0.1:80/x/").unwrap().endpoint, "http://127.0.0.1:80/x");
        for wrong in ["hub", "ftp://hub", "http://", "file:///etc"] {
            assert!(of("HF_ENDPOINT", wrong).is_err(), "{wrong}");
        }
        assert_eq!(settings(&[("HOME", "/h")]).unwrap().endpoint, DEFAULT_ENDPOINT);
        assert!(of("HF_HUB_OFFLINE", "yes").unwrap().offline);
        assert!(of("TRANSFORMERS_OFFLINE", "1").unwrap().offline);
        assert!(!of("HF_HUB_OFFLINE", "0").unwrap().offline);
    }
}
