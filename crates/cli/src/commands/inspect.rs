//! `lopper inspect`: what a model is made of, what each command needs in memory, and what cutting
//! layers saves. Reads no weights, unless the hash is asked for.
//!
//! The formulas behind the estimates are in `docs/reference/inspect.md`.

mod adapter;
mod kinds;

use lopper_heal::memory::{self, Need};
use lopper_model::checkpoint::Checkpoint;
use lopper_model::tensors::{LAYER_PREFIX, layer_tensors};
use lopper_model::{ParameterCounts, SMALL_MODEL_PARAMETERS};
use lopper_prune::layer_numbering;
use lopper_prune::savings::{Savings, savings};
use lopper_record::{LayerSet, Result};
use serde::Serialize;

use crate::args::InspectArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

use adapter::Adapter;
use kinds::LayerGroup;

/// Everything that is told; also the JSON document.
#[derive(Serialize)]
struct Inspection {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    family: String,
    layers: usize,
    /// The number of each layer in the original model, where this one is a cut of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_layers: Option<LayerSet>,
    /// The kinds of layers there are, in the order in which they first occur.
    layer_kinds: Vec<LayerGroup>,
    hidden_size: usize,
    intermediate_size: usize,
    attention_heads: usize,
    key_value_heads: usize,
    head_dim: usize,
    vocab_size: usize,
    context: usize,
    tied_head: bool,
    dtype: String,
    parameters: ParameterCounts,
    bytes: Bytes,
    /// Estimates.
    memory: Vec<Need>,
    cuts: Vec<Savings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<Adapter>,
}

#[derive(Serialize)]
struct Bytes {
    /// All tensors of the checkpoint, among them those that the decoder has no use for.
    checkpoint: u64,
    /// One layer, as stored.
    per_layer: u64,
    /// The weights while they are used: repacked in f32 for a small model, else pages of the file.
    loaded: u64,
    /// Keys and values of one token, in f32, while no window is full.
    kv_per_token: u64,
    /// Keys and values of a text that fills the context, in f32, where layers with a window keep
    /// only what it reaches.
    kv_at_context: u64,
}

pub fn run(context: &Context, args: &InspectArgs) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    let hash = args.hash.then(|| opened.checkpoint.hash().to_owned());
    let mut inspection = inspect(&opened.name, &opened.checkpoint, hash, context.threads)?;
    inspection.adapter = args.adapter.as_deref().map(|directory| Adapter::read(&opened, directory)).transpose()?;
    if args.json { context.printer.json(&inspection) } else { context.printer.result(&human(&inspection)) }
}

fn inspect(name: &str, checkpoint: &Checkpoint, hash: Option<String>, threads: usize) -> Result<Inspection> {
    let (config, numbering) = (checkpoint.config(), layer_numbering(checkpoint)?);
    let parameters = config.parameter_counts();
    let mut per_layer_bytes = 0;
    for (name, _) in layer_tensors(config) {
        let view = checkpoint.tensor(&format!("{}0.{name}", LAYER_PREFIX))?;
        per_layer_bytes += view.data.len() as u64;
    }
    let layers = config.num_hidden_layers;
    let bytes = Bytes {
        checkpoint: checkpoint.weight_bytes(),
        per_layer: per_layer_bytes,
        loaded: memory::weights(parameters.total, checkpoint.weight_bytes()),
        kv_per_token: config.kv_bytes_per_layer() * layers as u64,
        kv_at_context: config.kv_bytes_at_context().iter().sum(),
    };
    Ok(Inspection {
        model: name.to_owned(),
        hash,
        family: config.model_type.clone(),
        layers,
        original_layers: (numbering.original_layers() > layers).then(|| numbering.present().clone()),
        layer_kinds: kinds::groups(config, numbering.present()),
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        attention_heads: config.num_attention_heads,
        key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        vocab_size: config.vocab_size,
        context: config.max_position_embeddings,
        tied_head: config.tie_word_embeddings,
        dtype: checkpoint.dtype().to_string(),
        memory: memory::needs(config, checkpoint.weight_bytes(), threads),
        adapter: None,
        cuts: savings(config, bytes.checkpoint, bytes.per_layer),
        parameters,
        bytes,
    })
}

fn human(i: &Inspection) -> String {
    let p = &i.parameters;
    let layers = match &i.original_layers {
        Some(original) => format!("{}, by their original numbers {}", i.layers, original),
        None => i.layers.to_string(),
    };
    let head = if i.tied_head { "tied to the embedding".to_owned() } else { table::count(p.head) };
    let small = p.total < SMALL_MODEL_PARAMETERS as u64;
    let how = if small { "in f32" } else { "as stored, mapped from the file" };
    let mut lines = vec![("model", i.model.clone()), ("family", i.family.clone()), ("layers", layers)];
    match i.layer_kinds.as_slice() {
        [kind] => lines.push(("  each with", kind.describe())),
        several => lines.extend(several.iter().map(|kind| ("  with", kind.describe_with_layers()))),
    }
    lines.extend([
        ("width", format!("{} (MLP {})", i.hidden_size, i.intermediate_size)),
        ("heads", format!("{} of {} (keys and values: {})", i.attention_heads, i.head_dim, i.key_value_heads)),
        ("context", format!("{} tokens", table::count(i.context as u64))),
        ("parameters", table::count(p.total)),
        ("  embedding", format!("{} ({} tokens)", table::count(p.embedding), i.vocab_size)),
        ("  head", head),
        ("  final norm", table::count(p.final_norm)),
        ("  each layer", table::count(p.per_layer.total)),
        ("    attention", table::count(p.per_layer.attention)),
        ("    MLP", table::count(p.per_layer.mlp)),
        ("    norms", table::count(p.per_layer.norms)),
        ("on disk", format!("{} in {}", table::bytes(i.bytes.checkpoint), i.dtype)),
        ("in memory", format!("{}, {}", table::bytes(i.bytes.loaded), how)),
        (
            "KV cache",
            format!(
                "{} per token in f32, {} for a full context",
                table::bytes(i.bytes.kv_per_token),
                table::bytes(i.bytes.kv_at_context)
            ),
        ),
    ]);
    lines.extend(i.hash.clone().map(|hash| ("hash", hash)));
    let facts: Vec<String> = lines.into_iter().map(|(label, value)| format!("{label:<14} {value}")).collect();
    let adapter = i.adapter.as_ref().map_or_else(String::new, |adapter| format!("\n\n{}", adapter.human()));
    format!("{}{adapter}\n\n{}\n\n{}", facts.join("\n"), needs(&i.memory), cuts(&i.cuts))
}

/// The needs as a table.
fn needs(needs: &[Need]) -> String {
    let rows: Vec<[String; 4]> = needs
        .iter()
        .map(|need| {
            let tokens = if need.tokens == 0 { "–".to_owned() } else { table::count(need.tokens) };
            [need.command.to_owned(), table::bytes(need.total), table::bytes(need.fixed), tokens]
        })
        .collect();
    table::render(["memory, about", "in all", "without tokens", "tokens at once"], &rows)
}

/// The cuts as a table. The column of a full context is shown only where windows make it say
/// more than the one before it.
fn cuts(cuts: &[Savings]) -> String {
    let windows = cuts.iter().any(|cut| cut.kv_bytes_at_context[0] != cut.kv_bytes_at_context[1]);
    let common = |cut: &Savings| {
        let speed = format!("{:.2}–{:.2}", cut.speed_up, cut.speed_up_long_text);
        let saved = format!("{:.1} %", 100.0 * cut.saved_share);
        let kv = table::bytes(cut.kv_bytes_per_token);
        [cut.removed.to_string(), table::count(cut.parameters), saved, table::bytes(cut.checkpoint_bytes), kv, speed]
    };
    let header = ["layers removed", "parameters", "saved", "on disk", "KV per token", "speed-up, at most"];
    if !windows {
        return table::render(header, &cuts.iter().map(common).collect::<Vec<_>>()) + SPEED;
    }
    let rows: Vec<[String; 7]> = cuts
        .iter()
        .map(|cut| {
            let [a, b, c, d, e, f] = common(cut);
            let [least, most] = cut.kv_bytes_at_context.map(table::bytes);
            [a, b, c, d, e, if least == most { least } else { format!("{least}–{most}") }, f]
        })
        .collect();
    let [a, b, c, d, e, f] = header;
    table::render([a, b, c, d, e, "KV, full context", f], &rows) + SPEED
}

/// What the last column is.
const SPEED: &str = "\n\nSpeed-up: the work for one token before the cut, divided by the work after it; for short texts, and for\n\
    texts so long that attention is nearly all the work. A measured speed-up is smaller, because some work does\n\
    not shrink with the number of layers.";
