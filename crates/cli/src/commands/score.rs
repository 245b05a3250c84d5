//! `lopper score`: all layer criteria in one pass over a text.

use anyhow::Result;
use lopper_model::Model;
use lopper_pocket::{Mixture, Stream};
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, LayerScores};

use crate::args::{InputArgs, ScoreArgs};
use crate::env::Env;
use crate::input;
use crate::loaded::Loaded;
use crate::table;

/// Documents of the pocket model's own calibration text.
const POCKET_DOCUMENTS: usize = 256;
/// Their seed, which is not that of the training run.
const POCKET_SEED: u64 = 0x5c0e;

pub fn run(env: &Env, args: &ScoreArgs) -> Result<()> {
    let loaded = Loaded::open(env, &args.model)?;
    let calibration = calibration(env, &loaded, &args.input)?;
    let scores = measure(env, &loaded.model(env)?, &calibration)?;
    if args.json {
        return env.printer.json(&scores);
    }
    env.printer.note(&format!(
        "{} tokens in {} sequences; the least needed layers score lowest",
        table::count(scores.tokens as u64),
        table::count(scores.sequences as u64)
    ));
    env.printer.result(&human(&scores, loaded.numbering()?.present()))
}

/// What the criteria are to be measured on: what the user gave, or the pocket model's own text.
pub fn calibration(env: &Env, loaded: &Loaded, args: &InputArgs) -> Result<Calibration> {
    match input::sequences(env, loaded, args)? {
        Some(sequences) => Calibration::new(sequences),
        None if loaded.is_pocket() => {
            let documents = Stream::at(POCKET_SEED, 0, &Mixture::default()).take(POCKET_DOCUMENTS);
            Calibration::new(documents.map(|document| document.tokens).collect())
        }
        None => Err(input::nothing_given().into()),
    }
}

/// Measures all criteria with a progress bar.
pub fn measure(env: &Env, model: &Model, calibration: &Calibration) -> Result<LayerScores> {
    let progress = env.progress("scoring", "tokens", calibration.tokens());
    criteria::measure(model, calibration, &|tokens| {
        progress.add(tokens);
        env.check_interrupt()
    })
}

/// `names` are the layers' numbers in the original model.
fn human(scores: &LayerScores, names: &[usize]) -> String {
    let layers = scores.num_layers();
    let rank = |values: &[f64], layer: usize| {
        let smaller = values.iter().enumerate().filter(|(l, v)| v.total_cmp(&values[layer]).then(layer.cmp(l)).is_lt());
        smaller.count() + 1
    };
    let single = scores.angular.of_size(1).unwrap_or_default();
    let rows: Vec<[String; 5]> = (0..layers)
        .map(|layer| {
            [
                names[layer].to_string(),
                format!("{:.6}", scores.block_influence[layer]),
                rank(&scores.block_influence, layer).to_string(),
                format!("{:.6}", single[layer]),
                format!("{:.6}", scores.relative_magnitude[layer]),
            ]
        })
        .collect();
    let per_layer =
        table::render(["layer", "block influence", "goes as", "angular distance", "relative magnitude"], &rows);
    let blocks: Vec<[String; 3]> = scores
        .angular
        .sizes()
        .filter(|(size, _)| *size < layers)
        .filter_map(|(size, distances)| {
            let (first, distance) =
                distances.iter().enumerate().min_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)))?;
            let block = lopper_record::format_layers(&names[first..first + size]);
            Some([size.to_string(), block, format!("{distance:.6}")])
        })
        .collect();
    let per_block = table::render(["layers", "nearest block", "angular distance"], &blocks);
    format!("{per_layer}\n\n{per_block}")
}
