//! The model of a study, and what a study needs besides its file.

use lopper_infer::TextModel;
use lopper_record::study::ModelCard;
use lopper_record::{LayerNumbering, LayerPosition, LayerSet, Result};
use lopper_tasks::Resources;

use crate::HealingPrompt;

/// The model under study.
pub struct StudyModel {
    /// What is known about it before anything is measured.
    pub card: ModelCard,
    /// The model with its tokenizer and chat template.
    pub text: TextModel,
    /// The original number of each of its layers: other than its position where the model has been cut before.
    pub numbering: LayerNumbering,
}

impl StudyModel {
    /// All layers.
    pub fn layers(&self) -> LayerSet<LayerPosition> {
        LayerSet::all(self.card.num_layers)
    }

    /// The layers that stay when `dropped` are removed.
    pub fn without(&self, dropped: &LayerSet<LayerPosition>) -> LayerSet<LayerPosition> {
        dropped.complement(self.card.num_layers)
    }

    /// The original numbers of layers, as records have them.
    pub fn originals(&self, layers: &LayerSet<LayerPosition>) -> Result<LayerSet> {
        self.numbering.originals(layers)
    }
}

/// What a study needs besides its file and its model.
#[derive(Default)]
pub struct StudyInputs {
    /// Where rows are read from, and what runs programs.
    pub resources: Resources,
    /// Prompts to heal by in place of the tasks' training splits, for `heal.data`.
    pub prompts: Option<Vec<HealingPrompt>>,
}
