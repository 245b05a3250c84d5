//! Training-free compensation of a cut: weights of kept layers are changed so that the hidden states after a gap come
//! closer to what the removed layers made of them. The cut model keeps its shapes and has no new tensor.
//!
//! - [`CompensationMethod::Linear`] (ReplaceMe, Shopkhoev et al., arXiv 2505.02819): a linear map of the MLP output of
//!   the last kept layer before the gap, fitted by least squares, is folded into that layer's down projection;
//! - [`CompensationMethod::Magnitude`] (Prune&Comp, Chen et al., arXiv 2507.18212): the hidden states before the gap
//!   are scaled to the size of those after it, by scaling weights of the layers that follow.
//!
//! Several gaps are fitted in order, each to the hidden states of the model that is compensated so far; the target is
//! always what the uncut model has after the gap. `design/compensation.md` has the reasons and measurements.
//!
//! Not covered: LinearPatch's rotated scaling of channels (arXiv 2505.24680), which needs a new tensor at the seam;
//! training ([`lopper-heal`](../../lopper_heal/index.html) goes on from the compensated model).

mod gaps;
mod held_out;
mod linear;
mod magnitude;
mod states;
mod weights;

use lopper_model::{Checkpoint, Config, Model, NormPlacement};
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, Step};
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use gaps::gaps;
use states::States;
use weights::StoredAs;

pub use held_out::{HeldOutLoss, Split, held_out_loss, split};

/// The ridge of [`CompensationMethod::Linear`]: what is added to each channel's mean square, relative to itself.
pub const RIDGE: f64 = 1e-3;

/// How a cut is compensated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompensationMethod {
    /// A linear map, folded into the down projection before each gap.
    Linear,
    /// A factor for each gap, folded into the layers after it.
    Magnitude,
}

impl CompensationMethod {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Magnitude => "magnitude",
        }
    }
}

/// The hidden states that a gap is fitted to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FitInputs {
    /// Those of the cut model with the gaps before this one compensated: what the map will be applied to.
    #[default]
    Compensated,
    /// Those of the uncut model.
    Uncut,
}

/// What tokens count in the fit of [`CompensationMethod::Linear`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenWeights {
    /// 1 ÷ the squared length of the hidden state after the gap: the error is relative. A few tokens with hidden states
    /// a thousand times longer than others would otherwise decide the map.
    #[default]
    Relative,
    /// All tokens alike, as ReplaceMe has it.
    Equal,
}

/// How to compensate.
#[derive(Clone, Copy)]
pub struct CompensationOptions<'a> {
    /// The method.
    pub method: CompensationMethod,
    /// [`RIDGE`] for another strength; at least 1e-12.
    pub ridge: f64,
    /// Whose hidden states gaps are fitted to.
    pub inputs: FitInputs,
    /// How tokens are weighted.
    pub token_weights: TokenWeights,
    /// Round changed weights to what this checkpoint stores them as, so that the model in memory is the one that will
    /// be written. The model must have its layers.
    pub stored_in: Option<&'a Checkpoint>,
}

impl CompensationOptions<'_> {
    /// The defaults of `method`, in `f32`.
    pub fn new(method: CompensationMethod) -> Self {
        Self {
            method,
            ridge: RIDGE,
            inputs: FitInputs::default(),
            token_weights: TokenWeights::default(),
            stored_in: None,
        }
    }
}

/// A model without some layers, with weights of others changed to make up for them.
#[derive(Debug, Clone)]
pub struct Compensated {
    /// The model with only the kept layers, renumbered. It shares all weights that were not changed.
    pub model: Model,
    /// The names of the changed tensors, in the numbering of `model`.
    pub changed: Vec<String>,
    /// What was done at each gap.
    pub gaps: Vec<GapFit>,
}

/// What compensation did at one gap.
#[derive(Debug, Clone, PartialEq)]
pub struct GapFit {
    /// The removed layers.
    pub removed: LayerSet<LayerPosition>,
    /// The factor by which the hidden states before the gap are scaled: [`CompensationMethod::Magnitude`].
    pub factor: Option<f64>,
    /// ‖state − target‖² ÷ ‖target‖², mean over the tokens, before this gap was compensated and after: of the hidden
    /// states at the seam, the target being the uncut model's after the gap.
    pub error: [f64; 2],
}

/// Refuses what cannot be compensated; computes nothing. `tokens` are those of the calibration text.
///
/// # Errors
/// A [`Fault`] for a cut without a removed layer, a model whose MLP outputs are normed (`linear`), a gap before the
/// first kept layer (`linear`), gaps after which no layer follows (`magnitude`), and too few tokens.
pub fn check_compensation(
    config: &Config,
    kept: &LayerSet<LayerPosition>,
    tokens: usize,
    method: CompensationMethod,
) -> Result<()> {
    check_family(config, method)?;
    check_tokens(config, tokens, method)?;
    let gaps = gaps(config.num_hidden_layers, kept)?;
    match method {
        CompensationMethod::Linear => linear::check_gaps(&gaps),
        CompensationMethod::Magnitude => magnitude::check_gaps(config, &gaps),
    }
}

/// Refuses a text of too few tokens for `method`: the part of [`check_compensation`] that needs no cut.
///
/// # Errors
/// A [`Fault`] that says how many are needed.
pub fn check_tokens(config: &Config, tokens: usize, method: CompensationMethod) -> Result<()> {
    let least = match method {
        CompensationMethod::Linear => config.hidden_size,
        CompensationMethod::Magnitude => 1,
    };
    if tokens >= least {
        return Ok(());
    }
    Err(Fault::new(format!("the calibration text is too short to compensate by `{}`", method.name()))
        .expected(format!(
            "at least {least} tokens to fit to, as many as the model is wide; fifty times that is better"
        ))
        .got(format!("{tokens}, without those that are held out"))
        .hint("give a longer text, or compensate by `magnitude`, which needs few tokens")
        .into())
}

/// Refuses a family that `method` cannot compensate exactly: the part of [`check_compensation`] that needs no cut.
///
/// # Errors
/// A [`Fault`] that says why.
pub fn check_family(config: &Config, method: CompensationMethod) -> Result<()> {
    if method == CompensationMethod::Magnitude || config.norm_placement == NormPlacement::Before {
        return Ok(());
    }
    Err(Fault::new(format!("`{}` models cannot be compensated by a linear map", config.model_type))
        .expected("layers that add the MLP's output as the down projection gives it (Llama, Qwen, Mistral, …)")
        .got("a norm after the down projection, which a map folded into it would not pass unchanged")
        .hint("`magnitude` is exact for these models too")
        .into())
}

/// Removes all layers but those at the positions `kept` from `model`, and compensates for them over `calibration`.
///
/// # Errors
/// As [`check_compensation`]; a [`Fault`] for token ids outside the vocabulary and for hidden states that are not
/// finite; [`lopper_record::Interrupted`].
pub fn compensate(
    model: &Model,
    kept: &LayerSet<LayerPosition>,
    calibration: &Calibration,
    options: &CompensationOptions<'_>,
    progress: &dyn Progress,
) -> Result<Compensated> {
    check_compensation(&model.config, kept, calibration.tokens(), options.method)?;
    for sequence in calibration.sequences() {
        model.check_tokens(sequence)?;
    }
    let gaps = gaps(model.num_layers(), kept)?;
    let stored = StoredAs(options.stored_in);
    let last = gaps.last().map_or(0, |gap| gap.end);
    let step = progress.step(Step::new("compensating", "layers", last));
    let mut states = States::new(model, calibration, &*step)?;
    let mut changed_model = model.clone();
    let mut fits = Vec::with_capacity(gaps.len());
    let mut factor = 1.0;
    for (index, gap) in gaps.iter().enumerate() {
        let next = gaps.get(index + 1).map_or(model.num_layers(), |gap| gap.first);
        fits.push(match options.method {
            CompensationMethod::Linear => linear::fit(&mut states, &mut changed_model, gap, options, &stored)?,
            CompensationMethod::Magnitude => {
                let fit = magnitude::fit(&mut states, gap, &mut factor)?;
                magnitude::scale(&mut changed_model, gap.end..next, factor, &stored)?;
                fit
            }
        });
        if options.inputs == FitInputs::Uncut {
            states.forget_cut();
        }
        states.use_weights(&changed_model);
    }
    drop(step);
    let compensated = changed_model.keep(kept);
    let before = model.keep(kept).parameters();
    let changed = weights::changed(&before, &compensated.parameters());
    Ok(Compensated { model: compensated, changed, gaps: fits })
}
