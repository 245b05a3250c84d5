//! What each command needs in memory: estimates from shapes, with the defaults of the commands.
//!
//! Counted are weights, what is computed for the tokens that go through the model together, and what
//! training keeps for each trained number. The weights of a model that is not small are pages of its
//! file, which the system can take back. Not counted: tokenizer, program, allocator.
//! `docs/reference/inspect.md` has the formulas; where they come from is said at each line here.

use lopper_model::{Config, SMALL_MODEL_PARAMETERS};
use lopper_record::{LayerPosition, LayerSet};
use serde::Serialize;

use crate::recipe::{HealRecipe, Method, TrainedLayers};

/// Most tokens that a command takes through the model at once, unless one text is longer: the
/// groups of scoring, the prefill of generation and the micro-batches of training.
const AT_ONCE: u64 = 2048;
/// Below it every thread takes tokens of its own through the model, and weights are repacked in f32.
const SMALL_MODEL: u64 = SMALL_MODEL_PARAMETERS as u64;
/// Most bytes of hidden states that scoring keeps to compare layers by.
const MOST_HIDDEN: u64 = 256 << 20;

/// What a command needs.
#[derive(Debug, Clone, Serialize)]
pub struct Need {
    /// The command, or several that need the same.
    pub command: &'static str,
    /// Bytes that it needs whatever the text.
    pub fixed: u64,
    /// Bytes for each token that is in the model at once, or, in generation, cached.
    pub per_token: u64,
    /// How many tokens `total` counts.
    pub tokens: u64,
    /// Bytes with so many tokens.
    pub total: u64,
}

/// Bytes of the weights while they are used, given those of the file.
pub fn weights(parameters: u64, stored: u64) -> u64 {
    if parameters < SMALL_MODEL { 4 * parameters } else { stored }
}

/// Bytes of `values` numbers in NF4: four bits each, eight for 64 of them, 32 for 16,384.
fn nf4(values: u64) -> u64 {
    values / 2 + values / 64 + values / 4096
}

/// The needs of all commands for a model with `stored` bytes on disk, on `threads` threads.
pub fn needs(config: &Config, stored: u64, threads: usize) -> Vec<Need> {
    let parameters = config.parameter_counts().total;
    let weights = weights(parameters, stored);
    let small = parameters < SMALL_MODEL;
    let lanes = if small { threads.max(1) as u64 } else { 1 };
    let tokens = lanes * AT_ONCE.min(config.max_position_embeddings as u64);
    let shape = Shape::of(config);
    let need = |command, fixed: u64, per_token: u64| Need {
        command,
        fixed,
        per_token,
        tokens,
        total: fixed.saturating_add(per_token.saturating_mul(tokens)),
    };

    let forward = shape.activations() + shape.scratch();
    // Hidden states at every boundary between layers, for the angular distances.
    let boundaries = 4 * (config.num_hidden_layers as u64 + 1) * shape.hidden;
    // Every matrix repacked; the head also where it is tied.
    let packed = if small { 4 * (shape.layer_matrices * shape.layers + shape.head) } else { weights };
    let mut score = need("score", packed, forward);
    score.total = score.total.saturating_add(MOST_HIDDEN.min(boundaries.saturating_mul(tokens)));
    // A token is read once and stays in the cache of every layer.
    let generate = need("generate, eval", packed, forward + shape.cache);
    let heal = |command, method, load_in_4bit| {
        let recipe = HealRecipe { load_in_4bit, ..HealRecipe::for_size(parameters as usize, method) };
        need_of_healing(command, config, stored, threads, &[&LayerSet::all(config.num_hidden_layers)], &recipe)
    };
    vec![
        // Copied in pieces of 4 MiB: no weight stays.
        Need { command: "prune", fixed: 2 * (4 << 20), per_token: 0, tokens: 0, total: 2 * (4 << 20) },
        score,
        need("logprobs", packed, forward),
        generate,
        heal("heal --method lora", Method::Lora, false),
        heal("heal --load-in-4bit", Method::Lora, true),
        heal("heal --method full", Method::Full, false),
    ]
}

/// What finetuning the layers `kept` of the model by `recipe` needs; of several cuts, all of them at once.
pub fn need_of_healing(
    command: &'static str,
    config: &Config,
    stored: u64,
    threads: usize,
    kept: &[&LayerSet<LayerPosition>],
    recipe: &HealRecipe,
) -> Need {
    let parameters = config.parameter_counts().total;
    let shape = Shape::of(config);
    // As `Run::for_model` chooses them.
    let apart = parameters < SMALL_MODEL || recipe.mixed || recipe.method == Method::Lora && recipe.batch >= threads;
    let workers = if apart { threads.max(1) as u64 } else { 1 };
    let trained = kept.iter().map(|kept| trained_bytes(config, kept, recipe) / 4).sum::<u64>();
    // What is not trained.
    let matrices = shape.layer_matrices * shape.layers;
    let frozen = match (recipe.method, recipe.load_in_4bit) {
        (Method::Full, _) if recipe.layers.is_all() => 0,
        (Method::Full, _) | (Method::Lora, false) => weights(parameters, stored),
        // The weights that were given stay, too: in memory, or in their file, where they take none.
        (Method::Lora, true) if parameters < SMALL_MODEL => weights(parameters, stored) + nf4(matrices),
        (Method::Lora, true) => {
            let in_file = (u128::from(stored) * u128::from(matrices) / u128::from(parameters.max(1))) as u64;
            stored - in_file + nf4(matrices)
        }
    };
    // Its value, two moments, and a gradient in every worker. The state is written a few megabytes at a time.
    let fixed = frozen + 4 * trained * (3 + workers);
    // The gradient goes back to the first trained layer, and through all where the head is the embedding's matrix.
    let through_all = recipe.method == Method::Full && config.tie_word_embeddings;
    let layers = |kept: &&LayerSet<_>| if through_all { kept.len() } else { recipe.layers.of(kept).len() } as u64;
    // One cut after another goes through the layers that it trains.
    let layers = kept.iter().map(layers).max().unwrap_or(0);
    let kept = match recipe.checkpointing {
        true => 4 * shape.hidden * layers + shape.activations(),
        false => shape.activations() * layers,
    };
    let tokens = workers * AT_ONCE.min(config.max_position_embeddings as u64);
    let per_token = kept + shape.backward();
    Need { command, fixed, per_token, tokens, total: fixed.saturating_add(per_token.saturating_mul(tokens)) }
}

/// The needs of a study: of its criteria, of evaluation, and of healing where `recipe` says how.
pub fn needs_of_study(config: &Config, stored: u64, threads: usize, recipe: Option<&HealRecipe>) -> Vec<Need> {
    let named = |need: Need| match need.command {
        "score" => Some(Need { command: "layer criteria", ..need }),
        "generate, eval" => Some(Need { command: "evaluation, answers", ..need }),
        _ => None,
    };
    let mut needs: Vec<Need> = needs(config, stored, threads).into_iter().filter_map(named).collect();
    let all = LayerSet::all(config.num_hidden_layers);
    needs.extend(recipe.map(|recipe| need_of_healing("healing", config, stored, threads, &[&all], recipe)));
    needs
}

/// Most bytes that a study keeps of a model without `removed` of its layers that is healed by `recipe`: the adapter, or
/// all weights, in f32.
pub fn healed_bytes(config: &Config, removed: usize, recipe: &HealRecipe) -> u64 {
    let recipe = HealRecipe { layers: TrainedLayers::All, ..recipe.clone() };
    trained_bytes(config, &(removed..config.num_hidden_layers).collect(), &recipe)
}

/// Bytes of what `recipe` trains of the layers `kept` of the model, in f32: a third of the state of an unfinished run.
pub fn trained_bytes(config: &Config, kept: &LayerSet<LayerPosition>, recipe: &HealRecipe) -> u64 {
    4 * Shape::of(config).trained(config, recipe.layers.of(kept).len() as u64, recipe)
}

/// Numbers per token and per layer that the estimates are made of.
struct Shape {
    layers: u64,
    hidden: u64,
    query: u64,
    key_value: u64,
    mlp: u64,
    head: u64,
    /// Weights of a layer's matrices.
    layer_matrices: u64,
    /// Rows of both factors of rank 1 beside each matrix of a layer.
    adapter_rows: u64,
    /// Outputs of a layer's matrices: DoRA's magnitudes.
    outputs: u64,
    /// Bytes of one token's keys and values in all layers.
    cache: u64,
}

impl Shape {
    fn of(config: &Config) -> Self {
        let [hidden, query, key_value, mlp] =
            [config.hidden_size, config.query_size(), config.key_value_size(), config.intermediate_size]
                .map(|n| n as u64);
        // Inputs and outputs of q, k, v, o, gate, up, down.
        let matrices = [
            (hidden, query),
            (hidden, key_value),
            (hidden, key_value),
            (query, hidden),
            (hidden, mlp),
            (hidden, mlp),
            (mlp, hidden),
        ];
        let layers = config.num_hidden_layers as u64;
        Self {
            layers,
            hidden,
            query,
            key_value,
            mlp,
            head: config.vocab_size as u64 * hidden,
            layer_matrices: matrices.iter().map(|(inputs, outputs)| inputs * outputs).sum(),
            adapter_rows: matrices.iter().map(|(inputs, outputs)| inputs + outputs).sum(),
            outputs: matrices.iter().map(|(_, outputs)| outputs).sum(),
            cache: config.kv_bytes_per_layer() * layers,
        }
    }

    /// Numbers that `recipe` trains where it trains `layers` layers.
    fn trained(&self, config: &Config, layers: u64, recipe: &HealRecipe) -> u64 {
        match recipe.method {
            Method::Full => {
                let outside = match recipe.layers.is_all() {
                    true => config.parameters_outside_layers() as u64,
                    // The last norm and the head.
                    false => self.hidden + self.head,
                };
                outside + layers * config.parameters_per_layer() as u64
            }
            // Two factors for each of the seven matrices of a layer.
            Method::Lora => {
                let magnitudes = if recipe.lora.dora { self.outputs } else { 0 };
                (self.adapter_rows * recipe.lora.r as u64 + magnitudes) * layers
            }
        }
    }

    /// Bytes per token of what a layer's forward pass leaves for its backward pass: the stream before
    /// attention and MLP, queries and keys before and after norm and rotation, values, what was
    /// attended, gate and up (`Activations` in `crates/model/src/train/layer.rs`).
    fn activations(&self) -> u64 {
        4 * (2 * self.hidden + 3 * self.query + 3 * self.key_value + 2 * self.mlp)
    }

    /// Bytes per token that every layer overwrites: the normed stream, the layer's output, and the
    /// widest product.
    fn scratch(&self) -> u64 {
        4 * (2 * self.hidden + self.mlp.max(self.query))
    }

    /// Bytes per token of the gradients on their way back through one layer.
    fn backward(&self) -> u64 {
        4 * (4 * self.hidden + 2 * self.mlp + self.query + 2 * self.key_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_ordered_as_the_work_is() {
        let config = Config { vocab_size: 32_000, max_position_embeddings: 4096, ..Config::plain(12, 12, 64) };
        let parameters = config.parameter_counts().total;
        let needs = needs(&config, 2 * parameters, 2);
        let total = |command: &str| needs.iter().find(|need| need.command.starts_with(command)).unwrap().total;
        assert!(total("prune") < total("logprobs") && total("logprobs") < total("score"));
        assert!(total("logprobs") < total("generate"));
        assert!(total("heal --method lora") < total("heal --method full"));
        assert!(total("heal --load-in-4bit") < total("heal --method lora"));
        let matrices = 12 * Shape::of(&config).layer_matrices;
        let saved = needs[4].fixed - needs[5].fixed;
        assert_eq!(saved, 2 * matrices - nf4(matrices), "16 bits, and 4.127");
        // Weights, their gradient and two moments.
        assert_eq!(needs[6].fixed, 4 * 4 * parameters);
        assert_eq!(needs[2].fixed, 2 * parameters, "as stored");
    }

    #[test]
    fn what_is_not_trained_needs_no_moments() {
        let config = Config { vocab_size: 32_000, ..Config::plain(12, 12, 64) };
        let (kept, per_layer) = (LayerSet::from([0, 1, 2, 3, 7, 8]), config.parameters_per_layer() as u64);
        let of = |method, layers| HealRecipe { layers, ..HealRecipe::paper(method) };
        let full = |layers| trained_bytes(&config, &kept, &of(Method::Full, layers)) / 4;
        let (head, hidden) = (32_000 * 768, 768);
        assert_eq!(full(TrainedLayers::All), 6 * per_layer + 2 * head + hidden);
        assert_eq!(full(TrainedLayers::Last(3)), 3 * per_layer + head + hidden);
        assert_eq!(healed_bytes(&config, 6, &of(Method::Full, TrainedLayers::Last(3))), 4 * full(TrainedLayers::All));
        let lora = |layers| trained_bytes(&config, &kept, &of(Method::Lora, layers));
        assert_eq!(2 * lora(TrainedLayers::FromCut), lora(TrainedLayers::All), "3, 7 and 8");
        let need = |layers| need_of_healing("heal", &config, 1 << 28, 2, &[&kept], &of(Method::Full, layers)).total;
        assert!(need(TrainedLayers::Last(1)) < need(TrainedLayers::Last(3)));
        assert!(need(TrainedLayers::Last(3)) < need(TrainedLayers::All));
    }

    #[test]
    fn an_adapter_has_the_rows_of_its_matrices() {
        let shape = Shape::of(&Config::plain(1, 2, 8));
        // q, k, v, o: 16 in, 16 out; gate, up, down: 16 and 64.
        assert_eq!(shape.adapter_rows, 4 * 32 + 3 * 80);
        assert_eq!(shape.layer_matrices, 4 * 256 + 3 * 1024);
    }
}
