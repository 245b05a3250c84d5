//! Downloads models and rows of data sets from the Hugging Face hub into the cache that Python's huggingface_hub uses.
//!
//! Of a model ([`fetch`]) it downloads configuration, tokenizer, chat templates, licence, card and safetensors weights;
//! pickled weights are refused. Of a data set ([`DataSet`]) it downloads the Parquet files of the requested splits. The
//! revision is resolved to a commit first and every file is taken from that commit, so that a push meanwhile mixes
//! nothing. A file is written under a temporary name in the cache while holding huggingface_hub's lock, resumed where
//! an earlier download stopped, checked against the size and hash that the hub states, and then renamed. Weights come
//! last, so a snapshot that has its weights is complete.
//!
//! The server is not trusted: names, commits and etags are checked before they become paths, and the access token is
//! sent to the hub's own address and never to a redirect's target.
//!
//! ```
//! use lopper_hub::{HubId, Settings};
//!
//! let model = HubId::parse("Qwen/Qwen3-0.6B@main")?.expect("an id of the hub");
//! assert_eq!((model.id.as_str(), model.revision.as_deref()), ("Qwen/Qwen3-0.6B", Some("main")));
//! assert_eq!(HubId::parse("./a/directory")?, None);
//!
//! // `Settings::from_env()` reads the environment of this process; here it has one variable.
//! let variable = |name: &str| (name == "HF_HOME").then(|| "/data/huggingface".into());
//! let settings = Settings::from_variables(&variable)?;
//! assert_eq!(settings.endpoint, "https://huggingface.co");
//! assert_eq!(settings.cache, std::path::Path::new("/data/huggingface/hub"));
//! // lopper_hub::fetch(&model, &settings, &|_| Ok(()), &lopper_record::NoProgress)?.directory
//! # Ok::<(), lopper_record::Error>(())
//! ```
//!
//! The protocol is huggingface_hub's (its `file_download.py`, version 2.4): `GET api/models/ID/revision/REV`, `HEAD`
//! and `GET ID/resolve/COMMIT/FILE`; for data sets `api/datasets/…` and `datasets/ID/…`. `design/hub.md` says why the
//! `hf-hub` crate is not used.
//!
//! Not covered: uploads, data sets in formats other than Parquet, the Xet protocol (the hub serves the same bytes over
//! HTTP), parallel downloads, logging in (`hf auth login` does it, and its token is found here).

mod cache;
mod client;
mod data_set;
mod digest;
mod faults;
mod fetch;
mod id;
mod listing;
mod model_files;
mod settings;
mod transfer;
mod tree;

pub use data_set::{DataSet, SplitFiles};
pub use fetch::{Snapshot, fetch};
pub use id::HubId;
pub use settings::Settings;
