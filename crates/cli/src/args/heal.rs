//! Arguments of `lopper heal`. Settings that are not given come from the recipe for the model's size.

use std::convert::Infallible;
use std::fmt::Display;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use lopper_heal::{DIVERGENCE_STEPS, Distillation, ExportFormat, HealRecipe, Method, OnPolicy, TrainedLayers};
use lopper_model::SMALL_MODEL_PARAMETERS;
use lopper_model::checkpoint::Dtype;

use super::{FilterArgs, RowArgs, TemplateArgs};

/// What `setting` is by default, for help texts.
fn default<T: Display + PartialEq>(setting: impl Fn(&HealRecipe) -> T) -> String {
    let large = setting(&HealRecipe::paper(Method::Lora));
    let small = setting(&HealRecipe::for_pocket(Method::Lora));
    match large == small {
        true => format!("[default: {large}]"),
        false => format!("[default: {large}, or {small} below {} parameters]", small_model()),
    }
}

/// The size below which a model takes the recipe for small models, such as `50M`.
fn small_model() -> String {
    format!("{}M", SMALL_MODEL_PARAMETERS / 1_000_000)
}

/// `lopper heal`
#[derive(Debug, Args)]
pub struct HealArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Train on this file of rows (JSON Lines, JSON, CSV, Parquet) or data set of the hub (`organisation/name`), with
    /// `messages`, as `lopper generate` writes them, `conversations`, `prompt` and `completion`, `instruction` and
    /// `output`, or `question` and `answer`; several times for several of them
    #[arg(long, value_name = "DATA", required = true)]
    pub data: Vec<String>,

    /// Take examples of the several DATA in these proportions, such as `0.7,0.3`, as many as there are without
    /// repeating any [default: all of them]
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',')]
    pub mix: Option<Vec<f64>>,

    /// Train with this method
    #[arg(long, value_enum, default_value_t = MethodArg::Lora)]
    pub method: MethodArg,

    /// Train these layers of the cut: `all`, `from-cut` for those from the first removed layer on and the one before
    /// it, or `last:N` for the last N; with --method full also the head
    #[arg(long, value_name = "LAYERS", default_value_t = TrainedLayers::All)]
    pub train_layers: TrainedLayers,

    /// Write the adapter or the model to this directory
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,

    /// Heal the model without these layers, such as `21-28` or `3,8,19`; several times to heal several cuts in one pass
    /// over DATA, each as it would be alone, and write each to a directory of OUT
    #[arg(long, value_name = "LAYERS")]
    pub drop: Vec<String>,

    /// Train the adapter on weights in 4 bits (QLoRA: NF4 with double quantisation, as bitsandbytes'), for less memory
    #[arg(long)]
    pub load_in_4bit: bool,

    /// Merge the adapter into the weights of MODEL, and write a whole model
    #[arg(long)]
    pub merge: bool,

    /// Store the weights of a whole model in this type [default: that of MODEL]
    #[arg(long, value_name = "DTYPE", value_enum)]
    pub out_dtype: Option<OutDtypeArg>,

    /// Round every trained weight stochastically to bfloat16 after each step, so that a bfloat16 model holds exactly
    /// what was trained; with --method full
    #[arg(long)]
    pub stochastic_rounding: bool,

    /// Do not train, and write to OUT a recipe that trains the same with another program: the examples in tokens, its
    /// configuration, and a README with the commands and with what differs
    #[arg(long, value_name = "PROGRAM", value_enum,
          conflicts_with_all = ["merge", "out_dtype", "log", "tensorboard", "json"])]
    pub export: Option<ExportArg>,

    #[command(flatten)]
    pub rows: RowArgs,

    /// Read answers from this column [default: `completion`, `response`, `output` or `answer`]
    #[arg(long, value_name = "NAME", requires = "column")]
    pub answer_column: Option<String>,

    #[command(flatten)]
    pub template: TemplateArgs,

    /// Learn the prompts' tokens, too, and not the answers' alone; with --distill they are more to learn from
    #[arg(long)]
    pub train_on_inputs: bool,

    #[arg(long, value_name = "N", help = format!("Train on every example N times {}", default(|r| r.epochs)))]
    pub epochs: Option<usize>,

    #[arg(long, value_name = "RATE", help = format!(
        "Train with this learning rate after the warm-up [default: {:e}, or {:e} below {} parameters, {:e} there with \
         --method full]",
        HealRecipe::paper(Method::Lora).learning_rate,
        HealRecipe::for_pocket(Method::Lora).learning_rate,
        small_model(),
        HealRecipe::for_pocket(Method::Full).learning_rate
    ))]
    pub lr: Option<f64>,

    #[arg(long, value_enum, help = format!(
        "Let the learning rate go on like this after the warm-up [default: constant, or below {} parameters linear over \
         the last {:.0} % of the steps]",
        small_model(),
        100.0 * HealRecipe::for_pocket(Method::Lora).decay
    ))]
    pub schedule: Option<ScheduleArg>,

    /// Let the learning rate fall over this fraction of the steps, at their end
    #[arg(long, value_name = "FRACTION")]
    pub decay: Option<f64>,

    #[arg(long, value_name = "STEPS", help = format!(
        "Warm the learning rate up over the first STEPS steps {}", default(|r| r.warmup)
    ))]
    pub warmup: Option<usize>,

    /// Hold examples out of the training, and measure the loss on them before and after: a fraction such as `0.1`, a
    /// number, the rows of another file, or `none` [default: a tenth, at most 64, none of fewer than 50]
    #[arg(long, value_name = "FRACTION|N|FILE|none")]
    pub held_out: Option<HeldOutArg>,

    /// Measure the loss on the held-out examples after every N steps, too
    #[arg(long, value_name = "N")]
    pub eval_steps: Option<NonZero<usize>>,

    /// Write the weights with the lowest held-out loss, or those of the last step [default: best with --eval-steps]
    #[arg(long, value_enum, requires = "eval_steps")]
    pub keep: Option<KeepArg>,

    /// Stop after N evaluations in a row without a lower held-out loss
    #[arg(long, value_name = "N", requires = "eval_steps")]
    pub patience: Option<NonZero<usize>>,

    #[arg(long, value_name = "N", default_value_t = DIVERGENCE_STEPS, help =
        "Stop if the loss stays above its start for N steps, and go back to the best weights; 0 trains on"
    )]
    pub divergence_steps: usize,

    /// Write a line of JSON to FILE after each step: `step`, `loss`, `learning_rate`, `tokens`, `seconds`, and
    /// `held_out_loss` where it was measured
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Write the same for TensorBoard, as event files in DIR
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,

    #[arg(long, value_name = "N", help = format!("Train on N examples per step {}", default(|r| r.batch)))]
    pub batch: Option<usize>,

    #[arg(long, value_name = "RANK", help = format!("Train an adapter of this rank {}", default(|r| r.lora.r)))]
    pub r: Option<usize>,

    #[arg(long, help = format!("Scale the adapter by ALPHA / RANK {}", default(|r| r.lora.alpha)))]
    pub alpha: Option<f64>,

    #[arg(long, value_name = "P", help = format!(
        "Drop this fraction of the adapter's inputs {}", default(|r| r.lora.dropout)
    ))]
    pub dropout: Option<f64>,

    /// Scale the adapter by ALPHA / √RANK (rsLoRA)
    #[arg(long)]
    pub rslora: bool,

    /// Also train the norm of each row of the adapted weights (DoRA; slower)
    #[arg(long)]
    pub dora: bool,

    #[arg(long, value_name = "N", help = format!(
        "Skip examples of more than N tokens [default: {}, or the model's context if that is smaller]",
        HealRecipe::default().max_length
    ))]
    pub max_length: Option<usize>,

    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help = format!(
        "Gradient checkpointing: recompute activations in the backward pass (less memory, slower) {}",
        default(|r| r.checkpointing)
    ))]
    pub checkpointing: Option<bool>,

    /// Round the operands of matrix multiplications to bfloat16 (faster where the processor has instructions for it)
    #[arg(long)]
    pub bf16: bool,

    /// Seed for the adapter's initial weights, the order of the examples, dropout and stochastic rounding
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Save the unfinished training every SECONDS seconds, so that the same command continues it; less often where
    /// saving takes long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub save_every: u64,

    /// Overwrite OUT and the logs if they exist, and start over
    #[arg(long)]
    pub force: bool,

    /// Print a record of the training as one JSON document, also written to OUT as `heal.json`
    #[arg(long)]
    pub json: bool,

    // Last, since their headings hold for all that follows.
    #[command(flatten)]
    pub filters: FilterArgs,

    #[command(flatten)]
    pub distill: DistillArgs,
}

/// Learning from the uncut model's distributions of the next token (logit distillation).
#[derive(Debug, Args)]
#[command(next_help_heading = "Distillation")]
pub struct DistillArgs {
    /// Learn from the distributions of the model before the cut in place of the answers' tokens alone: by the
    /// `forward` Kullback-Leibler divergence KL(uncut ‖ cut), the `reverse` one, `mixed` (half of each), or with the
    /// part of the reverse one, from 0 to 1
    #[arg(long, value_name = "KL", num_args = 0..=1, default_missing_value = "forward")]
    pub distill: Option<DistillArg>,

    /// Divide both models' logits by T [default: 1]
    #[arg(long, value_name = "T", requires = "distill")]
    pub distill_temperature: Option<f64>,

    /// Part of the loss of the answers' own tokens, from 0 to 1 [default: 0]
    #[arg(long, value_name = "PART", requires = "distill")]
    pub distill_answers: Option<f64>,

    /// Weight of the mean squared difference of the last hidden states [default: 0]
    #[arg(long, value_name = "WEIGHT", requires = "distill")]
    pub distill_hidden: Option<f64>,

    /// Let the cut answer the prompts itself while it is trained, and learn at each of its tokens what the uncut model
    /// would give there (on-policy distillation): this fraction of the examples, at random, or all without a number
    #[arg(long, value_name = "FRACTION", num_args = 0..=1, default_missing_value = "1", requires = "distill")]
    pub on_policy: Option<f64>,

    #[arg(long, value_name = "N", requires = "on_policy", help = format!(
        "Let it answer before every N steps, for all of them [default: {}]", OnPolicy::default().every
    ))]
    pub on_policy_steps: Option<usize>,

    #[arg(long, value_name = "N", requires = "on_policy", help = format!(
        "End its answers after N tokens [default: {}]", OnPolicy::default().max_new_tokens
    ))]
    pub on_policy_max_new_tokens: Option<usize>,

    #[arg(long, value_name = "T", requires = "on_policy", help = format!(
        "Sample its answers at this temperature; 0: always the most probable token [default: {}]",
        OnPolicy::default().temperature
    ))]
    pub on_policy_temperature: Option<f64>,
}

impl DistillArgs {
    /// The setting of a recipe.
    pub fn distillation(&self) -> Option<Distillation> {
        let usual = Distillation::default();
        let DistillArg(reverse) = self.distill?;
        let on_policy = self.on_policy.map(|part| {
            let usual = OnPolicy::default();
            OnPolicy {
                part,
                every: self.on_policy_steps.unwrap_or(usual.every),
                max_new_tokens: self.on_policy_max_new_tokens.unwrap_or(usual.max_new_tokens),
                temperature: self.on_policy_temperature.unwrap_or(usual.temperature),
            }
        });
        Some(Distillation {
            reverse,
            temperature: self.distill_temperature.unwrap_or(usual.temperature),
            answers: self.distill_answers.unwrap_or(usual.answers),
            hidden_states: self.distill_hidden.unwrap_or(usual.hidden_states),
            on_policy,
        })
    }
}

/// The part of the reverse divergence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistillArg(f64);

impl FromStr for DistillArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forward" => Ok(Self(0.0)),
            "mixed" => Ok(Self(0.5)),
            "reverse" => Ok(Self(1.0)),
            number => match number.parse() {
                Ok(part) if (0.0..=1.0).contains(&part) => Ok(Self(part)),
                _ => Err("expected forward, reverse, mixed, or a number from 0 to 1".to_owned()),
            },
        }
    }
}

/// Training methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// Train a low-rank adapter, and write it in PEFT's layout
    Lora,
    /// Train all weights
    Full,
}

/// Programs that a training is exported for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportArg {
    /// A script for TRL's SFTTrainer
    Trl,
    /// A configuration for axolotl
    Axolotl,
    /// A configuration for torchtune's lora_finetune_single_device
    Torchtune,
}

impl From<ExportArg> for ExportFormat {
    fn from(arg: ExportArg) -> Self {
        match arg {
            ExportArg::Trl => Self::Trl,
            ExportArg::Axolotl => Self::Axolotl,
            ExportArg::Torchtune => Self::Torchtune,
        }
    }
}

/// Schedules of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// It stays as it is
    Constant,
    /// It falls to zero in a straight line
    Linear,
    /// It falls to zero in half a cosine wave
    Cosine,
    /// It stays, and falls to zero over the last fifth of the steps (warm-up, stable, decay)
    Wsd,
}

/// Which examples are held out.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldOutArg {
    /// None.
    None,
    /// So many.
    Number(usize),
    /// A number that is no whole one.
    Fraction(f64),
    /// The rows of a file.
    File(PathBuf),
}

impl FromStr for HeldOutArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.parse(), text.parse::<f64>()) {
            ("none", ..) => Self::None,
            (_, Ok(number), _) => Self::Number(number),
            (_, _, Ok(fraction)) => Self::Fraction(fraction),
            _ => Self::File(text.into()),
        })
    }
}

/// Which weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepArg {
    /// Those with the lowest held-out loss
    Best,
    /// Those of the last step
    Last,
}

/// What weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutDtypeArg {
    /// 32 bits: exactly what was trained, in twice the space
    Float32,
    /// 16 bits, 8 of them precision
    Bfloat16,
    /// 16 bits, 11 of them precision, values up to 65504
    Float16,
}

impl From<OutDtypeArg> for Dtype {
    fn from(arg: OutDtypeArg) -> Self {
        match arg {
            OutDtypeArg::Float32 => Self::F32,
            OutDtypeArg::Bfloat16 => Self::BF16,
            OutDtypeArg::Float16 => Self::F16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DistillArg;
    use super::HeldOutArg::{self, File, Fraction, None, Number};

    #[test]
    fn a_divergence_is_a_word_or_a_part() {
        let of = |text: &str| text.parse::<DistillArg>().map(|DistillArg(part)| part);
        assert_eq!(["forward", "mixed", "reverse", "0.3"].map(of), [0.0, 0.5, 1.0, 0.3].map(Ok));
        assert!(["1.1", "NaN", "backward"].map(of).iter().all(Result::is_err));
    }

    #[test]
    fn held_out_is_a_fraction_a_number_a_file_or_none() {
        let of = |text: &str| text.parse::<HeldOutArg>().unwrap();
        assert_eq!(
            ["none", "0", "12", "0.1", "1.0"].map(of),
            [None, Number(0), Number(12), Fraction(0.1), Fraction(1.0)]
        );
        assert_eq!(of("-0.5"), Fraction(-0.5));
        assert_eq!(["held.jsonl", "./0.1"].map(of), ["held.jsonl", "./0.1"].map(|name| File(name.into())));
    }
}
