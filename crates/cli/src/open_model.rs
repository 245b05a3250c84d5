//! The MODEL argument: a model directory, a model of the hub or the embedded model, opened and opened
//! step by step, so that a command pays only for what it needs and faults in arguments show before
//! weights are read.

use std::path::Path;
use std::sync::{Arc, Once};

use lopper_heal::AdapterInfo;
use lopper_hub::Snapshot;
use lopper_infer::{ChatTokenizer, Engine};
use lopper_model::checkpoint::{Checkpoint, Dtype};
use lopper_model::kernels::bf16::Instructions;
use lopper_model::tokenizer::Tokenizer;
use lopper_model::{Config, MatmulPrecision, Model, Release};
use lopper_record::{Fault, LayerNumbering, LayerPosition, LayerSet, Result};

use crate::args::{DtypeArg, RunArgs, TemplateArgs};
use crate::context::Context;
use crate::hub;

/// The argument that means the embedded model.
pub const POCKET: &str = "pocket";

/// An opened model.
pub struct OpenModel {
    /// What it is called in records: as the user named it; a model of the hub with its commit,
    /// `organisation/name@COMMIT`, which names the same files for ever.
    pub name: String,
    pub checkpoint: Arc<Checkpoint>,
    /// Where it came from the hub.
    pub snapshot: Option<Snapshot>,
}

impl OpenModel {
    /// Opens the model that `argument` names; reads no weights. A model of the hub is fetched first.
    pub fn open(context: &Context, argument: &str) -> Result<Self> {
        // What is there on this machine is meant, whatever the hub has under the same name.
        let local = argument == POCKET || Path::new(argument).symlink_metadata().is_ok();
        if let Some(model) = hub::named(context, argument, local)? {
            let snapshot = hub::fetch(context, &model)?;
            let checkpoint = Arc::new(Checkpoint::open(&snapshot.directory)?);
            return Ok(Self { name: snapshot.name(), checkpoint, snapshot: Some(snapshot) }.remarked(context));
        }
        let checkpoint = if argument == POCKET {
            Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?
        } else {
            Checkpoint::open(Path::new(argument))?
        };
        Ok(Self { name: argument.to_owned(), checkpoint: Arc::new(checkpoint), snapshot: None }.remarked(context))
    }

    /// Says what users may not expect of how the weights are read.
    fn remarked(self, context: &Context) -> Self {
        for remark in self.checkpoint.remarks() {
            context.printer.note(&format!("{}: {remark}", self.name));
        }
        self
    }

    /// What the model may be called: its name, its id on the hub, its directory.
    pub fn names(&self) -> Vec<String> {
        let directory = self.checkpoint.directory().and_then(|directory| directory.canonicalize().ok());
        let directory = directory.map(|directory| directory.display().to_string());
        let id = self.snapshot.as_ref().map(|snapshot| snapshot.id.clone());
        [Some(self.name.clone()), directory, id].into_iter().flatten().collect()
    }

    /// Whether it is the embedded model.
    pub fn is_pocket(&self) -> bool {
        self.checkpoint.directory().is_none()
    }

    /// Whether it is the embedded model or one made from it (cut, healed), as its tokenizer tells.
    pub fn descends_from_pocket(&self) -> Result<bool> {
        if self.is_pocket() {
            return Ok(true);
        }
        let own = self.checkpoint.file("tokenizer.json")?;
        let pocket = lopper_pocket::embedded::FILES.iter().find(|(name, _)| *name == "tokenizer.json");
        Ok(own.is_some_and(|own| pocket.is_some_and(|(_, pocket)| *own == **pocket)))
    }

    pub fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    /// How the layers are numbered: as in the original model, where this one has been cut before.
    pub fn numbering(&self) -> Result<LayerNumbering> {
        lopper_prune::layer_numbering(&self.checkpoint)
    }

    /// The positions of the layers that are left without those of `--drop`.
    pub fn kept(&self, drop: Option<&str>) -> Result<LayerSet<LayerPosition>> {
        let layers = self.config().num_hidden_layers;
        let Some(spec) = drop else { return Ok(LayerSet::all(layers)) };
        self.numbering()?.kept(&self.layers(spec)?)
    }

    /// The layers that `spec` lists, in the original numbering.
    pub fn layers(&self, spec: &str) -> Result<LayerSet> {
        LayerSet::parse(spec, self.numbering()?.original_layers())
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_checkpoint(&self.checkpoint)
    }

    /// The tokenizer and chat template, with the variables that the user sets.
    pub fn chat_tokenizer(&self, template: &TemplateArgs) -> Result<ChatTokenizer> {
        ChatTokenizer::from_checkpoint(&self.checkpoint)?.with_template_variables(&template.variables())
    }

    /// The engine over the weights as they are stored, for commands that only run the model forward.
    pub fn engine(&self, context: &Context, args: &RunArgs) -> Result<Engine> {
        let stored = self.checkpoint.dtype();
        let precision = match args.dtype {
            DtypeArg::Float32 => MatmulPrecision::F32,
            // A streamed weight is used as it is stored.
            DtypeArg::Bfloat16 if stored != Dtype::BF16 && args.stream => {
                return Err(Fault::new("the weights are not stored in bfloat16")
                    .file(self.checkpoint.path_of("config.json"))
                    .expected("BF16 tensors for --dtype bfloat16 with --stream")
                    .got(stored.to_string())
                    .hint("leave one of them out")
                    .into());
            }
            DtypeArg::Bfloat16 => MatmulPrecision::Bf16,
        };
        self.check_weights(context)?;
        if precision == MatmulPrecision::Bf16 {
            say_bf16(context);
        }
        let release = if args.stream { Release::Layer } else { Release::Never };
        let engine = context.engine(Model::in_place(&self.checkpoint, release)?)?.with_precision(precision);
        Ok(match args.memory {
            Some(bytes) => engine.with_memory(bytes),
            None => engine,
        })
    }

    /// The same with the adapter in `adapter`, of which only the layers `kept` are to run.
    pub fn engine_with_adapter(
        &self,
        context: &Context,
        args: &RunArgs,
        adapter: Option<&Path>,
        kept: &LayerSet<LayerPosition>,
    ) -> Result<Engine> {
        let engine = self.engine(context, args)?;
        let Some(directory) = adapter else { return Ok(engine) };
        let mut model = engine.model().clone();
        self.add_adapter(context, directory, &mut model, kept)?;
        Ok(engine.with_model(model))
    }

    /// Adds the adapter in `directory` to `model`, which is this one and of which only the layers `kept` are to run:
    /// an adapter of the cut that they are, or one of the whole model.
    pub fn add_adapter(
        &self,
        context: &Context,
        directory: &Path,
        model: &mut Model,
        kept: &LayerSet<LayerPosition>,
    ) -> Result<()> {
        let layers = model.num_layers();
        let onto = AdapterInfo::read(directory, &model.config)?.loaded_onto(layers, kept, &self.names())?;
        lopper_heal::load_adapter(directory, model, &onto)?;
        if onto.len() > kept.len() {
            context.printer.note(&format!(
                "the adapter was trained on all {layers} layers: what it has for the layers that are left out goes with \
                 them"
            ));
        }
        Ok(())
    }

    /// Names the settings of generation_config.json that would change answers and are not applied.
    pub fn warn_of_generation_settings(&self, context: &Context) -> Result<()> {
        let settings = lopper_model::generation::settings_not_applied(&self.checkpoint)?;
        if !settings.is_empty() {
            context.printer.warn(&format!(
                "generation_config.json sets {}, which is not applied: answers follow the model's own distribution",
                settings.join(", ")
            ));
        }
        Ok(())
    }

    /// Refuses weights that are no numbers, which would make every result worthless.
    pub fn check_weights(&self, context: &Context) -> Result<()> {
        self.checkpoint.check_finite(&LayerSet::all(self.config().num_hidden_layers), &context.progress)
    }

    /// The model with its weights as they are stored, but for those that the adapter changes, which is folded in.
    pub fn model_with_adapter(&self, context: &Context, adapter: Option<&Path>) -> Result<Model> {
        let mut model = self.model(context)?;
        if let Some(directory) = adapter {
            let all = LayerSet::all(model.num_layers());
            self.add_adapter(context, directory, &mut model, &all)?;
            lopper_heal::merge(&mut model);
        }
        Ok(model)
    }

    /// The model with its weights as they are stored.
    pub fn model(&self, context: &Context) -> Result<Model> {
        self.check_weights(context)?;
        Model::mapped(&self.checkpoint)
    }
}
/// Says, once, what products in bfloat16 are computed with.
pub fn say_bf16(context: &Context) {
    static SAID: Once = Once::new();
    SAID.call_once(|| match Instructions::best() {
        Some(instructions) => {
            context.printer.note(&format!("products in bfloat16 by the processor's {}", instructions.name()));
        }
        None => context.printer.warn(
            "this processor has no instructions for bfloat16 that can be used, so products are computed in float32",
        ),
    });
}
