//! Which layer of the original, uncut model each layer of a checkpoint is.

use anyhow::Result;
use lopper_model::Checkpoint;
use lopper_record::Fault;

use super::{ModelId, PLAN_FILE, Plan};

/// How the layers of a checkpoint are numbered: which layer of the original model each of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    original: Option<ModelId>,
    present: Vec<usize>,
    original_layers: usize,
}

impl Numbering {
    /// Reads the numbering of `checkpoint` from its `cut.json`; without one, layers are their own
    /// originals.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let layers = checkpoint.config().num_hidden_layers;
        let Some(bytes) = checkpoint.file(PLAN_FILE)? else {
            return Ok(Self { original: None, present: (0..layers).collect(), original_layers: layers });
        };
        let path = checkpoint.path_of(PLAN_FILE);
        let plan = Plan::parse(&bytes, &path)?;
        if plan.kept.len() != layers {
            return Err(Fault::new("cut.json contradicts the model beside it")
                .file(&path)
                .expected(format!("{layers} kept layers, by config.json"))
                .got(plan.kept.len().to_string())
                .hint("remove cut.json if it belongs to another model")
                .into());
        }
        let original = plan.original.unwrap_or(plan.source);
        Ok(Self { original_layers: original.num_hidden_layers, original: Some(original), present: plan.kept })
    }

    /// Layers of the original, uncut model: layer numbers lie below it.
    pub fn original_layers(&self) -> usize {
        self.original_layers
    }

    /// The uncut model; `None` where the checkpoint is that model itself.
    pub fn original(&self) -> Option<&ModelId> {
        self.original.as_ref()
    }

    /// The original number of each layer of the checkpoint, in order.
    pub fn present(&self) -> &[usize] {
        &self.present
    }

    /// Where the layers with these original numbers stand in the checkpoint.
    pub fn positions(&self, originals: &[usize]) -> Result<Vec<usize>> {
        let position = |layer: &usize| match self.present.binary_search(layer) {
            Ok(position) => Ok(position),
            Err(_) if *layer < self.original_layers => {
                Err(Fault::new(format!("layer {layer} has been removed from this model already"))
                    .expected(format!("layers among {}", lopper_record::format_layers(&self.present)))
                    .got(layer.to_string())
                    .hint("layers are counted in the original model's numbering; cut.json lists those left")
                    .into())
            }
            Err(_) => Err(Fault::new(format!("there is no layer {layer}"))
                .expected(format!("layers 0 to {}", self.original_layers - 1))
                .got(layer.to_string())
                .into()),
        };
        originals.iter().map(position).collect()
    }

    /// The original numbers of the layers at these positions of the checkpoint.
    pub fn originals(&self, positions: &[usize]) -> Result<Vec<usize>> {
        let original = |position: &usize| {
            self.present.get(*position).copied().ok_or_else(|| {
                Fault::new(format!("there is no layer at position {position}"))
                    .expected(format!("positions below {}", self.present.len()))
                    .into()
            })
        };
        positions.iter().map(original).collect()
    }
}
