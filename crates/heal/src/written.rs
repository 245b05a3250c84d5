//! The loss of the model that was written, compared with the one that was trained.
//!
//! Training is in f32. A checkpoint in bf16 rounds what is trained to 8 bits of precision, and an update that is small
//! against its weight is gone: what was measured in memory is then not what is on the disk.

use crate::evaluation::mean_loss;
use crate::sft::{Healed, Run};
use crate::trainer::Document;
use lopper_model::Model;
use lopper_record::{LayerPosition, LayerSet, Progress, Result, finite};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Most training examples that the loss is measured on where none are held out.
const MOST: usize = 64;
/// The part of the gain whose loss is worth a warning.
const WARN_ABOVE: f64 = 0.1;

/// Examples, and the loss on them of the model before the training and after it.
#[derive(Debug)]
pub struct LossSample<'a> {
    documents: Cow<'a, [Document]>,
    held_out: bool,
    start: f64,
    trained: f64,
    threads: usize,
}

impl<'a> LossSample<'a> {
    /// The held-out examples of `run`, or else up to 64 of those in `train`, evenly spaced. `model` without the layers
    /// that are not in `kept` is what was trained. A model that was trained in 4 bits is measured so, before and after.
    ///
    /// # Errors
    /// Those of the engine; [`Interrupted`](lopper_record::Interrupted).
    pub fn of(
        healed: &Healed,
        model: &Model,
        kept: &LayerSet<LayerPosition>,
        train: &'a [Document],
        run: &Run<'a>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let threads = run.threads();
        if let Some(loss) = healed.stats.held_out {
            let (start, trained) = (loss.first, loss.last);
            return Ok(Self { documents: run.held_out.into(), held_out: true, start, trained, threads });
        }
        let documents: Vec<Document> = train.iter().step_by(train.len().div_ceil(MOST).max(1)).cloned().collect();
        let before = match &healed.quantized {
            None => loaded(model.keep(kept)),
            Some(quantized) => without_adapter(quantized.clone()),
        };
        let (start, _) = mean_loss(&before, &documents, threads, progress)?;
        let (trained, _) = mean_loss(healed.trained(), &documents, threads, progress)?;
        Ok(Self { documents: documents.into(), held_out: false, start, trained, threads })
    }

    /// The loss of the model as it was written; `dtype` is what its weights are stored in.
    ///
    /// # Errors
    /// Those of the engine; [`Interrupted`](lopper_record::Interrupted).
    pub fn of_written(&self, written: Model, dtype: &str, progress: &dyn Progress) -> Result<WrittenLoss> {
        let Self { start, trained, .. } = *self;
        let (written, tokens) = mean_loss(&loaded(written), &self.documents, self.threads, progress)?;
        let gain_lost = (trained < start).then(|| (written - trained) / (start - trained));
        Ok(WrittenLoss {
            dtype: dtype.to_owned(),
            held_out: self.held_out,
            documents: self.documents.len(),
            tokens,
            start,
            trained,
            written,
            gain_lost,
        })
    }
}

/// The model before it was given an adapter.
fn without_adapter(mut model: Model) -> Model {
    for layer in &mut model.layers {
        layer.linears_mut().into_iter().for_each(|(_, linear)| linear.lora = None);
    }
    model
}

/// Computed as in training.
fn loaded(mut model: Model) -> Model {
    if model.is_small() {
        model.load();
    }
    model
}

/// Mean losses on the same examples, in nats per token in the loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WrittenLoss {
    /// What the written weights are stored in: `bfloat16`, …
    pub dtype: String,
    /// Whether the examples are held out of the training; otherwise they are some of those trained on.
    pub held_out: bool,
    /// Documents.
    pub documents: usize,
    /// Tokens the losses are means over.
    pub tokens: u64,
    /// Before the training.
    #[serde(with = "finite")]
    pub start: f64,
    /// Of the trained model, in f32 (but for a base in 4 bits) and with the adapter apart.
    #[serde(with = "finite")]
    pub trained: f64,
    /// Of the model as it was written.
    #[serde(with = "finite")]
    pub written: f64,
    /// The part of the gain, start − trained, that the written model lacks; negative where it is better than the
    /// trained one, none where nothing was gained.
    pub gain_lost: Option<f64>,
}

impl WrittenLoss {
    /// The losses in a sentence.
    pub fn summary(&self) -> String {
        let Self { dtype, documents, start, trained, written, .. } = self;
        let examples = if self.held_out { "held-out" } else { "training" };
        let lost = match self.gain_lost {
            Some(lost) if lost > 0.0 => format!(", {} of the gain lost", percent(lost)),
            Some(_) => ", nothing of the gain lost".to_owned(),
            None => String::new(),
        };
        let s = if *documents == 1 { "" } else { "s" };
        format!(
            "loss on {documents} {examples} answer{s} (nats per token): {start:.4} at the start, {trained:.4} trained, \
             {written:.4} as written in {dtype}{lost}"
        )
    }

    /// What to do where more than a tenth of the gain was lost. `merged` says that an adapter was merged.
    pub fn warning(&self, merged: bool) -> Option<String> {
        let lost = self.gain_lost.filter(|lost| *lost > WARN_ABOVE || lost.is_nan())?;
        let ways = match merged {
            true => "leave out --merge and keep the adapter apart, or write with --out-dtype float32",
            false => {
                "write with --out-dtype float32, or train with --stochastic-rounding (in bfloat16), or train an \
                 adapter and keep it apart"
            }
        };
        Some(format!(
            "{} of what was gained is lost in the written model: {} cannot hold updates that are small against their \
             weights; {ways}",
            percent(lost),
            self.dtype
        ))
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_gain_is_warned_of_with_what_to_do() {
        let of = |written: f64, gain_lost| WrittenLoss {
            dtype: "bfloat16".to_owned(),
            held_out: true,
            documents: 6,
            start: 3.0,
            trained: 2.0,
            written,
            gain_lost,
            ..WrittenLoss::default()
        };
        let most = of(2.87, Some(0.87));
        assert!(most.summary().ends_with("2.8700 as written in bfloat16, 87 % of the gain lost"), "{}", most.summary());
        assert!(most.warning(false).unwrap().contains("--stochastic-rounding"));
        let merged = most.warning(true).unwrap();
        assert!(merged.starts_with("87 % of what was gained") && merged.contains("keep the adapter apart"), "{merged}");
        assert_eq!(of(2.09, Some(0.09)).warning(true), None);
        assert_eq!(of(3.1, None).warning(true), None, "nothing was gained; another warning says so");
        assert!(of(1.99, Some(-0.01)).summary().contains("nothing of the gain lost"));
    }
}
