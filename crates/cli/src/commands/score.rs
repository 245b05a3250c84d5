//! `lopper score`: all layer criteria in one pass over a text.

use std::collections::BTreeMap;

use lopper_pocket::{Mixture, Stream};
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, Agreement, LayerScores, Measures, Request};
use lopper_record::{LayerNumbering, LayerSet, Result};
use serde::Serialize;

use crate::args::{InputArgs, ScoreArgs};
use crate::context::Context;
use crate::input;
use crate::open_model::OpenModel;
use crate::table;

/// Documents of the pocket model's own calibration text.
const POCKET_DOCUMENTS: usize = 256;
/// Their seed, which is not that of the training run.
const POCKET_SEED: u64 = 0x5c0e;

/// The JSON document.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    scores: LayerScores,
    /// Kendall's τ-b of every two criteria.
    agreement: Vec<Agreement>,
    /// By criterion and number of layers, the layers to remove, by their original numbers.
    plans: BTreeMap<&'static str, BTreeMap<usize, LayerSet>>,
}

pub fn run(context: &Context, args: &ScoreArgs) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    let calibration = calibration(context, &opened, &args.input)?;
    let what = Measures { perplexity: !args.no_perplexity, linear: true };
    let (adapter, all) = (args.adapter.as_deref(), LayerSet::all(opened.config().num_hidden_layers));
    let engine = opened.engine_with_adapter(context, &args.run, adapter, &all)?;
    let mut scores = criteria::measure(&engine, &calibration, what, &context.progress)?;
    if args.taylor {
        let model = opened.model_with_adapter(context, adapter)?;
        scores.taylor = Some(criteria::taylor(&model, &calibration, &context.progress)?);
    }
    let numbering = opened.numbering()?;
    let names = numbering.present();
    let plans = plans(&scores, &numbering)?;
    let agreement = criteria::agreement(&scores);
    if args.json {
        return context.printer.json(&Document { scores, agreement, plans });
    }
    context.printer.note(&format!(
        "{} tokens in {} sequences; the least needed layers score lowest",
        table::count(scores.tokens as u64),
        table::count(scores.sequences as u64)
    ));
    if let Some(sentence) = perplexity(&scores) {
        context.printer.note(&sentence);
    }
    let text =
        [human(&scores, names), blocks(&scores, names), agreements(&agreement), quarter(&plans, scores.num_layers())];
    context.printer.result(&text.join("\n\n"))
}

/// What the criteria are to be measured on: what the user gave, or the pocket model's own text.
pub fn calibration(context: &Context, opened: &OpenModel, args: &InputArgs) -> Result<Calibration> {
    match input::sequences(context, opened, args)? {
        Some(sequences) => Calibration::new(sequences),
        None if opened.is_pocket() => pocket_calibration(),
        None => Err(input::nothing_given().into()),
    }
}

/// The pocket model's own text.
pub fn pocket_calibration() -> Result<Calibration> {
    let documents = Stream::at(POCKET_SEED, 0, &Mixture::default()).take(POCKET_DOCUMENTS);
    Calibration::new(documents.map(|document| document.tokens).collect())
}

/// What each criterion would remove, for every number of layers that it can.
fn plans(
    scores: &LayerScores,
    numbering: &LayerNumbering,
) -> Result<BTreeMap<&'static str, BTreeMap<usize, LayerSet>>> {
    let layers = scores.num_layers();
    let measured: Vec<&str> = scores.by_criterion().iter().map(|(name, _)| *name).chain(["angular-mean"]).collect();
    let mut plans: BTreeMap<&'static str, BTreeMap<usize, LayerSet>> = BTreeMap::new();
    for criterion in criteria::CRITERIA.iter().filter(|c| measured.contains(&c.name)) {
        for remove in 1..layers {
            let request = Request { num_layers: layers, remove, scores: Some(scores), seed: 0 };
            let dropped = criteria::select(criterion, &request)?.dropped;
            let dropped = numbering.originals(&dropped)?;
            plans.entry(criterion.name).or_default().insert(remove, dropped);
        }
    }
    Ok(plans)
}

/// The perplexity of the text; the scores of its criterion are rises of its logarithm.
fn perplexity(scores: &LayerScores) -> Option<String> {
    let own = scores.perplexity.as_ref()?;
    let interval = match own.ci95 {
        Some([low, high]) => format!("95 % interval {low:.4} to {high:.4}, from the sequences"),
        None => "without an interval, which takes several sequences".to_owned(),
    };
    Some(format!("perplexity of the text {:.4} ({interval})", own.mean_nll.exp()))
}

/// The scores of single layers; `names` are the layers' numbers in the original model.
fn human(scores: &LayerScores, names: &LayerSet) -> String {
    let lists = scores.by_criterion();
    let rank = |values: &[f64], layer: usize| {
        let smaller = values.iter().enumerate().filter(|(l, v)| v.total_cmp(&values[layer]).then(layer.cmp(l)).is_lt());
        smaller.count() + 1
    };
    let mut head = vec!["layer", "goes as (bi)"];
    head.extend(lists.iter().map(|(name, _)| *name));
    let rises = scores.perplexity.as_ref().map(|scores| scores.rises_ci95.as_slice()).unwrap_or_default();
    if !rises.is_empty() {
        head.push("perplexity, 95 %");
    }
    let rows: Vec<Vec<String>> = (0..scores.num_layers())
        .map(|layer| {
            let mut row = vec![names.as_slice()[layer].to_string(), rank(&scores.block_influence, layer).to_string()];
            row.extend(lists.iter().map(|(_, values)| format!("{:.6}", values[layer])));
            row.extend(rises.get(layer).map(|[low, high]| format!("{low:.4} to {high:.4}")));
            row
        })
        .collect();
    table::render_rows(&head, &rows)
}

/// The nearest block of every size.
fn blocks(scores: &LayerScores, names: &LayerSet) -> String {
    let rows: Vec<[String; 3]> = scores
        .angular
        .sizes()
        .filter(|(size, _)| *size < scores.num_layers())
        .filter_map(|(size, distances)| {
            let (first, distance) =
                distances.iter().enumerate().min_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)))?;
            let block = names.iter().skip(first).take(size).collect::<LayerSet>().to_string();
            Some([size.to_string(), block, format!("{distance:.6}")])
        })
        .collect();
    table::render(["layers", "nearest block", "angular distance"], &rows)
}

/// How far criteria agree.
fn agreements(all: &[Agreement]) -> String {
    let rows: Vec<[String; 2]> = all
        .iter()
        .map(|pair| [pair.criteria.join(", "), pair.tau.map_or_else(|| "-".to_owned(), |tau| format!("{tau:.2}"))])
        .collect();
    table::render(["criteria", "agreement (Kendall's tau)"], &rows)
}

/// What each criterion would remove of a quarter of the layers.
fn quarter(plans: &BTreeMap<&'static str, BTreeMap<usize, LayerSet>>, layers: usize) -> String {
    let remove = (layers / 4).max(1);
    let rows: Vec<[String; 2]> =
        plans.iter().filter_map(|(name, plans)| Some([(*name).to_owned(), plans.get(&remove)?.to_string()])).collect();
    table::render(["criterion", &format!("of {layers} layers it removes {remove}")], &rows)
}
