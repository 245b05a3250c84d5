//! `lopper inspect`: what a model is made of, what each command needs in memory, and what cutting
//! layers saves. Reads no weights, unless the hash is asked for.
//!
//! The formulas behind the estimates are in `docs/reference/inspect.md`.

mod kinds;
mod memory;
mod savings;

use anyhow::Result;
use lopper_model::Config;
use lopper_model::checkpoint::Checkpoint;
use lopper_model::tensors::{LAYER_PREFIX, layer_tensors};
use lopper_prune::layer_numbering;
use lopper_record::LayerSet;
use serde::Serialize;

use crate::args::InspectArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

use kinds::LayerGroup;
use memory::Need;
use savings::Cut;

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
    parameters: Parameters,
    bytes: Bytes,
    /// Estimates.
    memory: Vec<Need>,
    cuts: Vec<Cut>,
}

#[derive(Serialize)]
struct Parameters {
    total: u64,
    embedding: u64,
    /// 0 where the head is tied to the embedding.
    head: u64,
    final_norm: u64,
    per_layer: LayerParameters,
}

#[derive(Serialize)]
struct LayerParameters {
    total: u64,
    attention: u64,
    mlp: u64,
    norms: u64,
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
    let inspection = inspect(&opened.name, &opened.checkpoint, hash, context.threads)?;
    if args.json { context.printer.json(&inspection) } else { context.printer.result(&human(&inspection)) }
}

fn inspect(name: &str, checkpoint: &Checkpoint, hash: Option<String>, threads: usize) -> Result<Inspection> {
    let (config, numbering) = (checkpoint.config(), layer_numbering(checkpoint)?);
    let parameters = parameters(config);
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
        kv_per_token: savings::kv_per_layer(config) * layers as u64,
        kv_at_context: savings::kv_at_context(config),
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
        memory: memory::needs(config, parameters.total, checkpoint.weight_bytes(), threads),
        cuts: savings::cuts(config, &parameters, &bytes),
        parameters,
        bytes,
    })
}

fn parameters(config: &Config) -> Parameters {
    let mut layer = LayerParameters { total: 0, attention: 0, mlp: 0, norms: 0 };
    for (name, shape) in layer_tensors(config) {
        let n: u64 = shape.iter().map(|d| *d as u64).product();
        layer.total += n;
        // Norms of queries and keys belong to the norms wherever their name puts them.
        *(if name.contains("norm") {
            &mut layer.norms
        } else if name.starts_with("mlp.") {
            &mut layer.mlp
        } else {
            &mut layer.attention
        }) += n;
    }
    let embedding = config.vocab_size as u64 * config.hidden_size as u64;
    let head = if config.tie_word_embeddings { 0 } else { embedding };
    let final_norm = config.hidden_size as u64;
    Parameters {
        total: embedding + head + final_norm + layer.total * config.num_hidden_layers as u64,
        embedding,
        head,
        final_norm,
        per_layer: layer,
    }
}

fn human(i: &Inspection) -> String {
    let p = &i.parameters;
    let layers = match &i.original_layers {
        Some(original) => format!("{}, by their original numbers {}", i.layers, original),
        None => i.layers.to_string(),
    };
    let head = if i.tied_head { "tied to the embedding".to_owned() } else { table::count(p.head) };
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
        ("in memory", format!("{}, {}", table::bytes(i.bytes.loaded), memory::how(p.total))),
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
    format!("{}\n\n{}\n\n{}", facts.join("\n"), memory::human(&i.memory), savings::human(&i.cuts))
}
