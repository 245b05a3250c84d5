//! Kinds of tasks with generated items, one file each: an item's requests, and the grade of the replies.

pub(crate) mod brackets;
pub(crate) mod choice;
pub(crate) mod code;
pub(crate) mod number;
pub(crate) mod summary;

use lopper_infer::{Finish, TextModel};
use lopper_pocket::{Example, TaskInfo};
use lopper_record::{Result, bail};

use crate::outcome::ItemResult;
use crate::requests::{ItemRequest, Reply, generation};

/// How the tasks of one kind are prompted and graded.
pub(crate) trait Family: Sync {
    /// The metrics' names, the primary one first.
    fn metrics(&self) -> &'static [&'static str];

    /// An item's requests: a response to its prompt, unless the kind has others.
    fn requests(&self, text: &TextModel, item: &Example, info: &TaskInfo) -> Result<Vec<ItemRequest>> {
        Ok(vec![generation(text, item, info)?])
    }

    /// Grades the replies, which are in the order of the requests.
    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade>;
}

/// Values of the metrics, in their order, and what else the replies say of the item.
pub(crate) type Grade = (Vec<f64>, ItemResult);

/// 1 for right, 0 for wrong.
fn binary(right: bool) -> f64 {
    if right { 1.0 } else { 0.0 }
}

/// The only text among the replies.
fn generated(replies: &[Reply]) -> Result<(&str, Finish)> {
    for reply in replies {
        if let Reply::Generated(response) = reply {
            return Ok((&response.text, response.finish));
        }
    }
    bail!("no text was generated for the item")
}

/// The only log-likelihoods among the replies.
fn log_likelihoods(replies: &[Reply]) -> Result<&[f64]> {
    for reply in replies {
        if let Reply::Loglikelihood(sums) = reply {
            return Ok(sums);
        }
    }
    bail!("no choice was scored for the item")
}
