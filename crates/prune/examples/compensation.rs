//! Compares ways to compensate a cut by the loss on a held-out text, for the tables of `design/compensation.md`.
//!
//! Usage: `compensation MODEL FIT.json TEST.json LAYERS… [--all]`, where MODEL is a directory or `pocket`, the files
//! are lists of lists of token ids (or `pocket:SEED:DOCUMENTS`, the pocket model's own text), and each LAYERS is a cut
//! such as `5-7`. With `--all`, also other ridges, weights of the tokens, inputs of the fit and lengths of the text.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::path::Path;
use std::sync::Arc;

use lopper_infer::Engine;
use lopper_model::{Checkpoint, Model};
use lopper_pocket::{Mixture, Stream};
use lopper_prune::compensation::{FitInputs, HeldOutLoss, RIDGE, TokenWeights, held_out_loss};
use lopper_prune::{Calibration, CompensationMethod, CompensationOptions, compensate};
use lopper_record::{Context, LayerPosition, LayerSet, NoProgress, OriginalLayer, Result};

fn text(path: &str) -> Result<Calibration> {
    if let Some((seed, documents)) = path.strip_prefix("pocket:").and_then(|rest| rest.split_once(':')) {
        let (seed, documents) = (seed.parse().context("a seed")?, documents.parse().context("a number")?);
        let documents = Stream::at(seed, 0, &Mixture::default()).take(documents);
        return Calibration::new(documents.map(|document| document.tokens).collect());
    }
    Calibration::new(serde_json::from_slice(&std::fs::read(path).with_context(|| path.to_owned())?)?)
}

/// Evenly chosen sequences of about `tokens` tokens.
fn part(text: &Calibration, tokens: usize) -> Result<Calibration> {
    let every = text.tokens().div_ceil(tokens).max(1);
    Calibration::new(text.sequences().iter().step_by(every).cloned().collect())
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = arguments.iter().position(|argument| argument == "--all").map(|at| arguments.remove(at)).is_some();
    let [name, fit, test, cuts @ ..] = arguments.as_slice() else {
        eprintln!("usage: compensation MODEL FIT.json TEST.json LAYERS… [--all]");
        std::process::exit(2);
    };
    let checkpoint = match name.as_str() {
        "pocket" => Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?,
        directory => Checkpoint::open(Path::new(directory))?,
    };
    let checkpoint = Arc::new(checkpoint);
    let model = Model::mapped(&checkpoint)?;
    let (fit, test) = (text(fit)?, text(test)?);
    let engine = Engine::new(model.clone(), 0)?;
    println!("{} tokens to fit to, {} held out", fit.tokens(), test.tokens());
    for cut in cuts {
        let dropped: LayerSet<OriginalLayer> = LayerSet::parse(cut, model.num_layers())?;
        let dropped: LayerSet<LayerPosition> = dropped.indices().collect();
        let kept = dropped.complement(model.num_layers());
        let run = |name: &str, fit: &Calibration, options: CompensationOptions<'_>| -> Result<HeldOutLoss> {
            let options = CompensationOptions { stored_in: Some(&checkpoint), ..options };
            let begun = std::time::Instant::now();
            let found = compensate(&model, &kept, fit, &options, &NoProgress)?;
            let seconds = begun.elapsed().as_secs_f64();
            let loss = held_out_loss(&engine, &kept, &found.model, &test, &NoProgress)?;
            let errors: Vec<String> =
                found.gaps.iter().map(|gap| format!("{:.4}>{:.4}", gap.error[0], gap.error[1])).collect();
            println!(
                "{cut} | {name} | {} tokens | {seconds:.1} s | loss uncut {:.4} cut {:.4} compensated {:.4} | {} {:?}",
                fit.tokens(),
                loss.uncut,
                loss.cut,
                loss.compensated,
                errors.join(" "),
                found.gaps.iter().filter_map(|gap| gap.factor).collect::<Vec<_>>()
            );
            Ok(loss)
        };
        let linear = CompensationOptions::new(CompensationMethod::Linear);
        run("linear", &fit, linear)?;
        run("magnitude", &fit, CompensationOptions::new(CompensationMethod::Magnitude))?;
        if !all {
            continue;
        }
        run("linear, equal tokens", &fit, CompensationOptions { token_weights: TokenWeights::Equal, ..linear })?;
        run("linear, on the uncut model", &fit, CompensationOptions { inputs: FitInputs::Uncut, ..linear })?;
        let magnitude = CompensationOptions::new(CompensationMethod::Magnitude);
        run("magnitude, on the uncut model", &fit, CompensationOptions { inputs: FitInputs::Uncut, ..magnitude })?;
        for ridge in [0.0, 1e-4, 1e-2, 0.1, 1.0] {
            run(&format!("linear, ridge {ridge} (not {RIDGE})"), &fit, CompensationOptions { ridge, ..linear })?;
        }
        for tokens in [1, 3, 10, 30].map(|times| times * model.config.hidden_size) {
            if tokens < fit.tokens() {
                run("linear, less text", &part(&fit, tokens)?, linear)?;
            }
        }
    }
    Ok(())
}
