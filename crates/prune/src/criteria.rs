//! Criteria: which layers to remove, by scores from one pass over calibration text, or without any text.
//!
//! A criterion is one file with a `CRITERION` constant, one line in [`CRITERIA`] and a test. All of them read the same
//! [`LayerScores`], so that comparing them costs one pass. Layers are positions in the model that was measured.
//!
//! Not here: searches that evaluate candidates on tasks ([`crate::search`]).

mod agreement;
mod angular;
mod block_influence;
mod linear;
mod measure;
mod perplexity;
mod random;
mod relative_magnitude;
mod reverse;
mod scores;
mod taylor;

#[cfg(test)]
mod tests;

use lopper_record::{Context, Fault, LayerPosition, LayerSet, Result, ensure};

pub use agreement::{Agreement, agreement};
pub use measure::{Measures, measure};
pub use scores::{BlockScores, LayerScores, PerplexityScores};
pub use taylor::taylor;

/// A way of choosing layers.
#[derive(Debug, Clone, Copy)]
pub struct Criterion {
    /// As users write it.
    pub name: &'static str,
    /// One line for listings.
    pub description: &'static str,
    /// Whether it reads [`LayerScores`], and so needs calibration text.
    pub needs_scores: bool,
    /// Whether the seed changes what it chooses.
    pub needs_seed: bool,
    by: By,
}

/// What a criterion chooses by.
#[derive(Debug, Clone, Copy)]
enum By {
    /// A score of each layer, if it was measured: the smallest are removed.
    Layer(fn(&LayerScores) -> Option<Vec<f64>>),
    /// A score of each contiguous block: the smallest is removed.
    Block(fn(&LayerScores) -> &BlockScores),
    /// The place of the layers alone.
    Place(fn(&Request<'_>) -> Result<Selection>),
}

impl Criterion {
    const fn new(name: &'static str, description: &'static str, by: By) -> Self {
        Self { name, description, needs_scores: !matches!(by, By::Place(_)), needs_seed: false, by }
    }
}

/// Every criterion.
pub const CRITERIA: [Criterion; 11] = [
    block_influence::CRITERION,
    angular::LAST_TOKEN,
    angular::MEAN_TOKEN,
    relative_magnitude::CRITERION,
    perplexity::CRITERION,
    linear::CRITERION,
    taylor::CRITERION,
    reverse::ALL,
    reverse::KEEP_LAST_1,
    reverse::KEEP_LAST_2,
    random::CRITERION,
];

/// What a criterion chooses from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Layers of the model.
    pub num_layers: usize,
    /// How many to remove.
    pub remove: usize,
    /// The scores, for criteria that read them.
    pub scores: Option<&'a LayerScores>,
    /// Seed, for criteria that draw.
    pub seed: u64,
}

/// What a criterion chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The layers to remove.
    pub dropped: LayerSet<LayerPosition>,
    /// The scores by which it chose, of which the smallest are removed: one for each layer, or, for criteria of blocks,
    /// one for each first layer of a block.
    pub scores: Option<Vec<f64>>,
}

/// The criterion of this name.
///
/// # Errors
/// A [`Fault`] that lists the names there are.
pub fn criterion(name: &str) -> Result<&'static Criterion> {
    static ALL: [Criterion; CRITERIA.len()] = CRITERIA;
    ALL.iter().find(|criterion| criterion.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|criterion| format!("`{}`", criterion.name)).collect();
        Fault::new(format!("unknown criterion `{name}`"))
            .expected(format!("one of {}", names.join(", ")))
            .got(format!("`{name}`"))
            .hint("`bi` and `angular` need calibration text, `reverse` and `random` do not")
            .into()
    })
}

/// Refuses to remove no layer or every layer.
///
/// # Errors
/// A [`Fault`] that names the numbers that are possible.
pub fn check_removal(num_layers: usize, remove: usize) -> Result<()> {
    if remove > 0 && remove < num_layers {
        return Ok(());
    }
    Err(Fault::new(format!("{remove} layers cannot be removed"))
        .expected(format!("between 1 and {} of the model's {num_layers} layers", num_layers.saturating_sub(1)))
        .got(remove.to_string())
        .hint("keep at least one layer")
        .into())
}

/// Chooses `request.remove` layers by `criterion`.
///
/// # Errors
/// A [`Fault`] when no layer or every layer would go, or when the criterion cannot remove so many.
pub fn select(criterion: &Criterion, request: &Request<'_>) -> Result<Selection> {
    let Request { num_layers, remove, scores, .. } = *request;
    check_removal(num_layers, remove)?;
    ensure!(
        scores.is_none_or(|scores| scores.num_layers() == num_layers),
        "scores of another model: {:?} layers, not {num_layers}",
        scores.map(LayerScores::num_layers)
    );
    let measured = || scores.with_context(|| format!("`{}` needs scores", criterion.name));
    let selection = match criterion.by {
        By::Layer(of) => {
            let scores = of(measured()?).with_context(|| format!("`{}` was not measured", criterion.name))?;
            smallest(scores, request)
        }
        By::Block(of) => angular::smallest(of(measured()?), request)?,
        By::Place(choose) => choose(request)?,
    };
    ensure!(selection.dropped.len() == remove, "`{}` chose {:?} instead of {remove}", criterion.name, selection);
    Ok(selection)
}

/// Removes the layers with the smallest scores; of equal scores the later layer goes first.
fn smallest(scores: Vec<f64>, request: &Request<'_>) -> Selection {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
    Selection { dropped: order.into_iter().take(request.remove).collect(), scores: Some(scores) }
}
