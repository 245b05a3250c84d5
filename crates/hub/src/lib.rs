//! Models and rows of data sets from the Hugging Face hub, into the cache that Python's
//! huggingface_hub uses too.
//!
//! Only what is needed is fetched: of a model ([`fetch`]) configuration, tokenizer, chat templates, licence,
//! card, and safetensors weights, pickled weights being refused; of a data set ([`DataSet`]) the Parquet files
//! of the splits that are asked for. The revision is resolved to a commit first and
//! every file is taken from that commit, so that a push in between mixes nothing. A file is written
//! beside its place in the cache under the other program's lock, continued where an earlier
//! download ended, compared with the size and the hash that the hub gives, and only then renamed;
//! weights come last, so a snapshot that has its weights has everything.
//!
//! What the server says is not trusted: names, commits and etags become paths only after a check,
//! and the access token goes to the hub's own address and never to where it redirects.
//!
//! The protocol is the one that huggingface_hub speaks (its `file_download.py`, version 2.4):
//! `GET api/models/ID/revision/REV`, `HEAD` and `GET ID/resolve/COMMIT/FILE`; of data sets `api/datasets/…` and
//! `datasets/ID/…`. `design/hub.md` says why
//! the `hf-hub` crate is not used.
//!
//! Not covered: uploads, data sets in other forms than Parquet, the Xet protocol (the hub serves the same bytes over HTTP),
//! several downloads at a time, logging in (`hf auth login` does it, and its token is found here).

mod cache;
mod choose;
mod client;
mod data_set;
mod digest;
mod faults;
mod fetch;
mod id;
mod listing;
mod settings;
mod transfer;
mod tree;
mod watch;

pub use data_set::{DataSet, SplitFiles};
pub use fetch::{Snapshot, fetch};
pub use id::HubId;
pub use settings::Settings;
pub use watch::{Silent, Watch};
